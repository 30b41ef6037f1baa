"""What every method must keep to; a new one joins by being registered."""

import copy
import gc
import random

import numpy as np
import pytest
import torch
from torch import nn

from mitate.explain.explainer import Explainer
from mitate.explain.methods import METHODS
from mitate.models.classifier import Classifier
from oracles import networks

LAYOUTS = ("with relu in place", "channels last", "tokens", "used twice, first", "several outputs")
FEWER = {  # where the default would only take longer
    "rise": {"samples": 12},
    "smoothgrad": {"samples": 3},
    "integratedgradients": {"steps": 4},
    "loupe": {"steps": 6},
}
SEEDED = {"random", "rise", "smoothgrad"}  # by the image's own numbers
OF_ROUNDED_NUMBERS = SEEDED | {"fem"}  # or a step function
# Of probabilities, which bfloat16 hardly tells apart.
DIFFERENCES = {"groupcam", "occlusion", "loupe"}
KINKS = {"gradient", "inputxgradient", "integratedgradients", "fullgrad"}  # it is on either side of

# Attention needs networks that have it: tests/explain/methods/test_attention.py.
pytestmark = pytest.mark.parametrize(
    "method", [name for name, method in METHODS.items() if method.family != "attention"]
)


def explainer(method: str, network: networks.Halves, **options) -> Explainer:
    return Explainer(
        Classifier.from_module(network, classes=networks.CLASSES),
        method,
        network.layer,
        **FEWER.get(method, {}),
        **options,
    )


def fitting(method: str, name: str) -> networks.Halves:
    """A small network; that which a method is for, where it is for one kind only."""
    of_one_kind = {"head": "pooled", "guided": "with relu in place"}
    kinds = (of_one_kind[need] for need in METHODS[method].needs if need in of_one_kind)
    return networks.make(next(kinds, name))


def is_of_pixels(method: str) -> bool:
    return any(kind.derived and not kind.at_layer for kind in METHODS[method].evidence)


def state_of(network: nn.Module) -> dict:
    return {
        "training": [module.training for module in network.modules()],
        "recording": [p.requires_grad for p in network.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in network.parameters()],
        "hooks": hooks_of(network),
        "values": copy.deepcopy(network.state_dict()),
        "attributes": [sorted(vars(module)) for module in network.modules()],
    }


def hooks_of(network: nn.Module) -> list[int]:
    tables = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_forward_hooks_with_kwargs",
    )
    return [len(getattr(module, table)) for module in network.modules() for table in tables]


def assert_same(before: dict, after: dict) -> None:
    for name in ("training", "recording", "hooks", "attributes"):
        assert before[name] == after[name], name
    for old, new in zip(before["gradients"], after["gradients"], strict=True):
        assert (old is None) == (new is None)
        assert old is None or torch.equal(old, new)
    for name, value in before["values"].items():
        assert torch.equal(value, after["values"][name]), name


@pytest.mark.parametrize("name", LAYOUTS)
def test_maps_are_finite_on_the_layers_grid_or_the_pixels(method: str, name: str) -> None:
    network, images = fitting(method, name), networks.make_images(3)
    explanation = explainer(method, network)(images, top_k=2)
    own = is_of_pixels(method) or METHODS[method].own_grid
    assert explanation.maps.shape == (3, 2, *(networks.SIZE if own else (4, 6)))
    assert explanation.maps.isfinite().all()
    assert not explanation.maps.requires_grad
    assert explanation.classes.shape == explanation.probabilities.shape == (3, 2)
    with torch.no_grad():
        output = network(images)
    logits = output[0] if isinstance(output, tuple) else output
    torch.testing.assert_close(explanation.logits, logits)
    assert torch.equal(explanation.classes, logits.topk(2).indices)


@pytest.mark.parametrize("name", LAYOUTS)
def test_batch_equals_loop(method: str, name: str) -> None:
    network, images = fitting(method, name), networks.make_images(5)
    together = explainer(method, network, batch_size=2)(images, top_k=2)
    alone = [explainer(method, network)(image, top_k=2) for image in images]
    maps = torch.cat([explanation.maps for explanation in alone])
    torch.testing.assert_close(together.maps, maps, rtol=0, atol=1e-10)
    assert torch.equal(together.classes, torch.cat([one.classes for one in alone]))


@pytest.mark.parametrize("name", LAYOUTS)
def test_k_classes_equal_k_calls(method: str, name: str) -> None:
    network, images = fitting(method, name), networks.make_images(2)
    explain = explainer(method, network)
    together = explain(images, targets=[[4, 0, 2]] * 2).maps
    for place, target in enumerate((4, 0, 2)):
        alone = explain(images, targets=[target] * 2).maps[:, 0]
        torch.testing.assert_close(together[:, place], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_model_is_left_as_it_was(method: str, frozen: bool, mode) -> None:
    network, images = fitting(method, "with relu in place"), networks.make_images(2)
    network.train()
    list(network.children())[1].eval()
    network.requires_grad_(not frozen)
    network.head.weight.requires_grad_(True)
    network.head.weight.grad = torch.ones_like(network.head.weight)
    handle = network.tapped.register_forward_hook(lambda *_: None)
    before, given = state_of(network), images.clone()
    expected = explainer(method, fitting(method, "with relu in place"))(images).maps
    with mode():
        grad_mode = torch.is_grad_enabled()
        made = explainer(method, network)(images).maps
        assert torch.is_grad_enabled() == grad_mode
    assert_same(before, state_of(network))
    assert torch.equal(images, given)
    torch.testing.assert_close(made, expected)
    assert not made.is_inference()
    handle.remove()


class Failing(nn.Module):
    """Fails at the given forward."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.done = at, 0

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        self.done += 1
        if self.done == self.at:
            raise RuntimeError("broken inside")
        return tensor


@pytest.mark.parametrize("at", [1, 2])
def test_the_model_is_left_as_it_was_after_an_exception(method: str, at: int) -> None:
    if at > 1 and "scorer" not in METHODS[method].needs and not is_of_pixels(method):
        pytest.skip("this method runs one forward")
    network = fitting(method, "with relu in place")
    network.tapped = nn.Sequential(Failing(at), network.tapped)
    network.train()
    before = state_of(network)
    for recording in (False, True):
        network.tapped[0] = Failing(at)
        with torch.set_grad_enabled(recording):
            with pytest.raises(RuntimeError, match="broken inside"):
                explainer(method, network)(networks.make_images(2))
            assert torch.is_grad_enabled() is recording
            assert not torch.is_inference_mode_enabled()
    assert_same(before, state_of(network))


def test_an_input_that_requires_grad_gets_none(method: str) -> None:
    network, images = fitting(method, "convolutions"), networks.make_images(2).requires_grad_()
    explainer(method, network)(images)
    assert images.grad is None


def test_a_network_that_alters_its_input_does_not_alter_the_users(method: str) -> None:
    network, images = fitting(method, "pooled"), networks.make_images(2)
    plain = explainer(method, network)(images.relu()).maps
    name, first = next(network.named_children())
    setattr(network, name, nn.Sequential(nn.ReLU(inplace=True), first))
    given = images.clone()
    made = explainer(method, network)(images).maps
    assert torch.equal(given, images)
    if method not in {"groupcam", "loupe"} and {"images", "generators", "guided"}.isdisjoint(
        METHODS[method].needs
    ):
        torch.testing.assert_close(made, plain)


def test_global_randomness_is_untouched(method: str) -> None:
    network, images = fitting(method, "with relu"), networks.make_images(2)
    explain = explainer(method, network)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    explain(images)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])  # noqa: NPY002


def test_the_same_seed_gives_the_same_map(method: str) -> None:
    network, images = fitting(method, "with relu"), networks.make_images(2)
    first, second = (explainer(method, network, seed=7)(images) for _ in range(2))
    assert torch.equal(first.maps, second.maps)
    assert first.seed == 7


@pytest.mark.parametrize("calls", [20, pytest.param(200, marks=pytest.mark.long)])
def test_nothing_grows_over_calls(method: str, calls: int) -> None:
    network, images = fitting(method, "with relu"), networks.make_images(1)
    explain = explainer(method, network)
    explain(images)
    hooks = hooks_of(network)

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    tensors = alive()
    for _ in range(calls):
        explain(images)
    assert hooks_of(network) == hooks
    assert alive() == tensors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_single(method: str, dtype: torch.dtype) -> None:
    network, images = fitting(method, "with relu").float(), networks.make_images(2).float()
    targets = [[0, 1]] * 2
    single = explainer(method, network)(images, targets=targets)
    half = explainer(method, copy.deepcopy(network).to(dtype))(images, targets=targets)
    assert half.maps.isfinite().all()
    assert half.maps.dtype == half.logits.dtype == torch.float32
    lost = OF_ROUNDED_NUMBERS | (DIFFERENCES | KINKS if dtype == torch.bfloat16 else set())
    if method not in lost:
        peak, near = single.maps.abs().max(), 0.15 if method == "reciprocam" else 0.06
        assert (half.maps - single.maps).abs().max() < near * peak


def test_channels_last_memory_changes_nothing(method: str) -> None:
    network, images = fitting(method, "with relu"), networks.make_images(2)
    expected = explainer(method, network)(images).maps
    network = network.to(memory_format=torch.channels_last)
    made = explainer(method, network)(images.to(memory_format=torch.channels_last)).maps
    torch.testing.assert_close(made, expected, rtol=1e-10, atol=1e-12)


def test_it_is_documented(method: str) -> None:
    entry = METHODS[method]
    assert entry.name == method
    assert entry.summary.endswith((".", ").", "."))
    assert len(entry.summary) < 100
    assert "doi:" in entry.cite or "arXiv:" in entry.cite
    assert entry.cost.of(100, 3, options=entry.options) >= 1
