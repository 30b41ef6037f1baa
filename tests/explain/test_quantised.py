"""Networks whose layers cannot be watched, or give whole numbers: what needs no layer runs."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mitate import Classifier, Explainer
from mitate.errors import LayerError
from mitate.models.architecture import number_of_outputs

pytestmark = pytest.mark.filterwarnings(  # PyTorch's own, of what is tried here
    "ignore:torch.ao.quantization is deprecated:DeprecationWarning",
    "ignore:.*quantiz.*:UserWarning",
    "ignore:.*TypedStorage.*:UserWarning",
    "ignore:.*torch.jit.*:DeprecationWarning",
    "ignore:.*quant_min and quant_max.*:UserWarning",
)
quantization = torch.ao.quantization


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quantised, self.plain = quantization.QuantStub(), quantization.DeQuantStub()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(self.quantised(images)).mean((-2, -1))
        return self.plain(self.head(features))


def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def static() -> nn.Module:
    network = small()
    network.qconfig = quantization.get_default_qconfig("x86")
    prepared = quantization.prepare(network)
    prepared(images())
    return quantization.convert(prepared)


def scripted() -> nn.Module:
    return torch.jit.trace(small(), images())


MAKERS = {"static": static, "scripted": scripted}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("method", ["occlusion", "rise", "centre", "random", "edges"])
def test_what_needs_no_layer(kind: str, method: str) -> None:
    classifier = Classifier.from_module(MAKERS[kind](), classes=5)
    options = {"samples": 50} if method == "rise" else {}
    made = Explainer(classifier, method, **options)(images(), top_k=2)
    assert (made.layer, made.maps.shape) == ("pixels", (2, 2, 16, 16))
    assert not made.flags


class Counting(nn.Module):
    """Has a batch norm, and counts its forwards in its own place and in a new one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), nn.Linear(8, 5)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.seen += images.shape[0]
        self.runs = self.runs + 1
        return self.head(self.body(images).mean((2, 3)))


@pytest.mark.parametrize(
    "compiled",
    [
        torch.jit.script,
        lambda network: torch.jit.trace(network, images(), check_trace=False),
        lambda network: nn.Sequential(torch.jit.script(network)),
    ],
    ids=["scripted", "traced", "a part"],
)
@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_scripted_norms_and_counters_are_as_they_were(
    compiled: Callable[[nn.Module], nn.Module], method: str
) -> None:
    plain = Counting().eval()
    wanted = Explainer(plain, "gradient")(images(), top_k=2)
    network = compiled(copy.deepcopy(plain))
    before = [buffer.clone() for buffer in network.buffers()]
    made = Explainer(Classifier.from_module(network, classes=5), method)(images(), top_k=2)
    torch.testing.assert_close(made.logits, wanted.logits)
    if method == "gradient":
        torch.testing.assert_close(made.maps, wanted.maps, rtol=1e-3, atol=1e-5)
    assert not made.flags
    for buffer, old in zip(network.buffers(), before, strict=True):
        assert torch.equal(buffer, old)


def test_a_frozen_script_that_has_no_mode() -> None:
    network = torch.jit.freeze(torch.jit.script(small()))
    made = Explainer(Classifier.from_module(network, classes=5), "occlusion")(images(), top_k=1)
    assert made.maps.any()


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_their_maps_are_those_of_a_layer_of_pixels(method: str) -> None:
    """A network that can be watched, at a layer that gives the image's own grid."""
    network = small()
    watched = nn.Sequential(nn.Conv2d(3, 3, 1), network).eval()
    with torch.no_grad():
        watched[0].weight.copy_(torch.eye(3)[..., None, None])
        watched[0].bias.zero_()
    options = {"samples": 50} if method == "rise" else {}
    given = {"targets": [[0, 3]] * 2}
    wanted = Explainer(watched, method, "0", **options)(images(), **given)
    classifier = Classifier.from_module(scripted(), classes=5)
    found = Explainer(classifier, method, **options)(images(), **given)
    torch.testing.assert_close(found.maps, wanted.maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "told"), [("static", "give whole numbers"), ("scripted", "TorchScript module")]
)
@pytest.mark.parametrize("method", ["gradcam", "scorecam", "reciprocam", "eigencam"])
def test_what_needs_one_says_what_would_do(kind: str, told: str, method: str) -> None:
    classifier = Classifier.from_module(MAKERS[kind](), classes=5)
    with pytest.raises(LayerError, match=f"{told}.*occlusion or rise"):
        Explainer(classifier, method)(images())


def dynamic() -> nn.Module:
    made = small()
    made.quantised, made.plain = nn.Identity(), nn.Identity()
    return quantization.quantize_dynamic(made, {nn.Linear}, dtype=torch.qint8)


def test_the_number_of_classes_is_that_of_the_quantised_head() -> None:
    assert number_of_outputs(dynamic()) == 5
    assert number_of_outputs(static()) == 5


@pytest.mark.parametrize("method", ["reciprocam", "ablationcam"])
def test_linear_layers_quantised_alone(method: str) -> None:
    """Their packed weights are no tensors, and are carried in the graph from the layer on."""
    network = dynamic()
    plain = copy.deepcopy(network)
    weight, bias = plain.head.weight().dequantize(), plain.head.bias()
    plain.head = nn.Linear(8, 5)
    with torch.no_grad():
        plain.head.weight.copy_(weight)
        plain.head.bias.copy_(bias)
    found = Explainer(network, method, "body.2")(images(), targets=[1, 1])
    wanted = Explainer(plain, method, "body.2")(images(), targets=[1, 1])
    assert wanted.maps.any()
    spread = wanted.maps.amax()
    assert (found.maps - wanted.maps).abs().max() < 0.1 * spread  # of eight bits
