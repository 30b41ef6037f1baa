import copy
from collections.abc import Callable
from threading import Event, Thread

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import config
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

from mitate import Classifier, Explainer
from mitate.models.mode import as_written, at_full_speed, batch_for, evaluating


def network() -> nn.Sequential:
    made = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()))
    made[1].eval()
    made[1][1].train()
    return made


def test_every_module_gets_its_own_mode_back() -> None:
    made = network()
    before = [module.training for module in made.modules()]
    with evaluating(made):
        assert not any(module.training for module in made.modules())
    assert [module.training for module in made.modules()] == before
    assert len(set(before)) == 2


def test_again_inside_the_outer_one_restores() -> None:
    made = network()
    with evaluating(made):
        with evaluating(made), evaluating(nn.Dropout()):
            assert not made[0].training
        assert not any(module.training for module in made.modules())
    assert made[0].training
    assert not made[1].training
    with evaluating(made):
        assert not made[0].training


@pytest.mark.parametrize("flag", ["grad_checkpointing", "memory_efficient"])
def test_checkpointing_is_off_within_and_on_again(flag: str) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).eval()
    setattr(network[0], flag, True)
    setattr(network[1], flag, False)
    with evaluating(network):
        assert not any(getattr(layer, flag) for layer in network)
    assert [getattr(layer, flag) for layer in network] == [True, False]


class Stage(nn.Sequential):
    """Of code of its own, which PyTorch compiles."""

    def __init__(self, channels: int) -> None:
        layers = nn.Conv2d(channels, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)
        super().__init__(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 1


class Checkpointed(nn.Module):
    """Calls ``torch.utils.checkpoint`` by itself, whatever its mode is."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first, self.second = Stage(3), Stage(4)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        for stage in (self.first, self.second):
            if self.reentrant is None:
                images = stage(images)
            else:
                images = checkpoint(stage, images, use_reentrant=self.reentrant)
        return self.head(images.mean((-2, -1)))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    ("method", "layer"),
    [
        ("gradcam", "first.0"),
        ("gradcam", "second.0"),
        ("hirescam", ["first.0", "second.0"]),
        ("shapleycam", "first"),
        ("gradient", "auto"),
        ("fullgrad", "auto"),
    ],
)
def test_a_network_that_checkpoints_by_itself(
    reentrant: bool, method: str, layer: str | list[str]
) -> None:
    """In training mode too, and inside of what is checkpointed."""
    torch.manual_seed(0)
    plain, images = Checkpointed(None).eval(), torch.rand(2, 3, 16, 16)
    network = Checkpointed(reentrant).train()
    network.load_state_dict(plain.state_dict())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    wanted = Explainer(plain, method, layer)(images).maps
    found = Explainer(network, method, layer)(images).maps
    torch.testing.assert_close(found, wanted)
    assert found.any()
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_network_checkpoints_again_afterwards(reentrant: bool) -> None:
    torch.manual_seed(0)
    network, images = Checkpointed(reentrant).train(), torch.rand(2, 3, 16, 16)
    Explainer(network, "gradcam", "second.0")(images)
    counts = []
    network.first.register_forward_pre_hook(lambda *_: counts.append(1))
    network(images.requires_grad_()).sum().backward()
    assert len(counts) == 2


@pytest.mark.parametrize("how", ["in place", "a part", "wrapped part", "its forward"])
def test_what_was_compiled_runs_as_it_was_written(how: str) -> None:
    """And by its compiled code again afterwards, which is not made anew."""
    torch.manual_seed(0)
    plain, images = Checkpointed(None).eval(), torch.rand(2, 3, 16, 16)
    network = copy.deepcopy(plain)
    counter = CompileCounter()
    match how:
        case "in place":
            network.compile(backend=counter)
        case "a part":
            network.second.compile(backend=counter)
        case "wrapped part":
            network.second = torch.compile(network.second, backend=counter)
        case "its forward":
            network.forward = torch.compile(network.forward, backend=counter)
    with torch.no_grad():
        network(images)
    compiled = counter.frame_count
    assert compiled
    for method in ("gradcam", "scorecam", "ablationcam"):
        wanted = Explainer(plain, method, "first")(images).maps
        torch.testing.assert_close(Explainer(network, method, "first")(images).maps, wanted)
    assert counter.frame_count == compiled
    torch._dynamo.reset()
    with torch.no_grad():
        network(images)
    assert counter.frame_count > compiled


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "gradient", "glance"])
def test_a_compiled_function_of_a_network_runs_as_it_was_written(method: str) -> None:
    """Its backward may free what a second class needs."""

    def gated(features: Tensor) -> Tensor:
        return features.softmax(1) * features.sigmoid()

    compiled = torch.compile(gated, backend="aot_eager")

    class Gated(nn.Module):
        def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
            self.head, self.gate = nn.Linear(8, 5), gate

        def forward(self, images: Tensor) -> Tensor:
            features = self.gate(self.second(self.gate(self.first(images))))
            return self.head(features.mean((2, 3)))

    images = torch.rand(2, 3, 32, 48)
    network = Gated(compiled).eval()
    network(images)  # compiled now, with its backward
    wanted = Explainer(Gated(gated).eval(), method)(images, top_k=3).maps
    torch.testing.assert_close(Explainer(network, method)(images, top_k=3).maps, wanted)
    assert wanted.any()


def test_threads_with_compiled_networks_leave_all_as_it_was() -> None:
    """The one that comes first may go first."""
    first, second = (Stage(3).eval() for _ in range(2))
    for network in (first, second):
        network.compile(backend="eager")
    entered, leave, faults = Event(), Event(), list[BaseException]()

    def other() -> None:
        try:
            with evaluating(second):
                entered.set()
                leave.wait(60)
                assert not config.error_on_nested_fx_trace
        except BaseException as exc:
            faults.append(exc)

    thread = Thread(target=other)
    with evaluating(first):
        thread.start()
        entered.wait(60)
        assert not config.error_on_nested_fx_trace
    assert config.error_on_nested_fx_trace
    leave.set()
    thread.join()
    assert not faults


def test_after_an_exception_too() -> None:
    made = network()
    before = [module.training for module in made.modules()]
    with pytest.raises(KeyError), evaluating(made):
        raise KeyError
    assert [module.training for module in made.modules()] == before


class Viewing(nn.Module):
    """Cannot flatten a layer's output whose channels lie last, as many written by hand cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 5)

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.is_contiguous(memory_format=torch.channels_last))
        return self.head(self.conv(images).relu().view(len(images), -1))


def lies_last(images: Tensor) -> bool:
    return images.is_contiguous(memory_format=torch.channels_last)


def test_channels_lie_last_where_that_is_fast() -> None:
    images = torch.randn(2, 3, 8, 8)
    quick = torch._C._has_mkldnn
    assert at_full_speed(network(), images, lies_last) is quick
    assert not at_full_speed(network(), images.double(), lies_last)
    assert not at_full_speed(network(), images[..., None], lambda given: given.ndim != 5)
    with as_written():
        assert not at_full_speed(network(), images, lies_last)
    assert at_full_speed(network(), images, lies_last) is quick


def test_a_network_that_cannot_take_them_so_is_asked_once() -> None:
    made = Viewing().eval()
    images = torch.randn(2, 3, 8, 8)
    expected = made(images).detach()
    classifier = Classifier.from_module(made)
    made.seen.clear()
    torch.testing.assert_close(classifier.logits(images), expected)
    explanation = Explainer(classifier, "gradcam", "conv")(images)
    torch.testing.assert_close(explanation.logits, expected)
    assert made.seen.count(True) == torch._C._has_mkldnn
    assert made.seen[-1] is False


def test_its_own_errors_stay_its_own() -> None:
    made = Viewing().eval()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        Classifier.from_module(made).logits(torch.randn(1, 3, 9, 9))
    made.seen.clear()
    Classifier.from_module(made).logits(torch.randn(1, 3, 8, 8))
    assert made.seen == ([True, False] if torch._C._has_mkldnn else [False])


@pytest.mark.parametrize("scarce", [True, False])
def test_want_of_memory_is_no_reason_for_good(monkeypatch, scarce) -> None:
    monkeypatch.setattr("mitate.models.mode.onednn.convolves", lambda images: True)
    made, ways = network(), []

    def run(images: Tensor) -> Tensor:
        ways.append(lies_last(images))
        if len(ways) == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate" if scarce else "no view")
        return images

    for _ in range(2):
        at_full_speed(made, torch.randn(2, 3, 8, 8), run)
    assert ways == [True, False, scarce]


@pytest.mark.parametrize(
    ("size", "number"),
    [
        ((3, 224, 224), 16),
        ((3, 512, 512), 16),
        ((3, 128, 128), 48),
        ((1, 224, 224), 48),
        ((3, 128, 256), 24),
        ((3, 32, 32), 128),
        ((1, 64, 64, 64), 16),
        ((0,), 128),
    ],
)
def test_a_batch_holds_more_of_smaller_images_and_no_fewer_of_larger_ones(size, number):
    assert batch_for(torch.empty(2, *size, device="meta")) == number
    assert batch_for(torch.empty(0, *size, device="meta")) == 128


class Counting(nn.Module):
    """Writes to its buffers in every forward, in place, anew and of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("times", torch.zeros(()))
        self.register_buffer("anew", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(0))
        self.inner = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        self.times += 1
        self.anew = self.anew + 1
        self.seen.resize_(2).fill_(images.max().item())
        return self.inner(images).mean((2, 3))


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "loupe", "occlusion", "fullgrad"])
def test_buffers_are_given_back(method: str) -> None:
    network = Counting()
    network(torch.ones(1, 3, 8, 8))
    own = dict(network.named_buffers())
    before = {name: buffer.clone() for name, buffer in own.items()}
    Explainer(network, method, show_progress=False)(torch.randn(2, 3, 8, 8))
    for name, buffer in network.named_buffers():
        assert buffer is own[name]
        assert torch.equal(buffer, before[name])
