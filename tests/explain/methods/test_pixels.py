import numpy as np
import pytest
import torch
from torch import nn

from mitate.errors import LayerError, UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.methods.perturbed import blurred
from mitate.explain.methods.pixels import gauss_legendre
from mitate.models.classifier import Classifier
from mitate.tensors import generators
from oracles import networks, pixels

NAMES = ("with relu", "channels last", "tokens")
TARGETS = [[0, 3]] * 2


def explainer(network: nn.Module, method: str, layer: str = "auto", **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, method, layer, **options)


def assert_is(made: torch.Tensor, network: networks.Halves, oracle, **options) -> None:
    for i, image in enumerate(networks.make_images(2)):
        for j, target in enumerate(TARGETS[i]):
            expected = torch.tensor(oracle(network, image, target, **options), dtype=torch.float64)
            torch.testing.assert_close(made[i, j], expected, rtol=1e-9, atol=1e-11)
    assert made.any()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["gradient", "inputxgradient"])
def test_is_the_oracles(method: str, name: str, signed: bool) -> None:
    network = networks.make(name)
    made = explainer(network, method, signed=signed)(networks.make_images(2), targets=TARGETS)
    assert_is(made.maps, network, getattr(pixels, method), signed=signed)
    assert made.layer == "pixels"
    assert (made.maps.min() < 0) == signed


@pytest.mark.parametrize("name", NAMES)
def test_smoothgrad_is_the_oracles(name: str) -> None:
    network, images = networks.make(name), networks.make_images(2)
    made = explainer(network, "smoothgrad", samples=3, spread=0.2, seed=5)(images, targets=TARGETS)
    for i, (image, generator) in enumerate(zip(images, generators(5, list(images)), strict=True)):
        size = 0.2 * (image.max() - image.min())
        noise = [
            size * torch.randn(image.shape, generator=generator, dtype=torch.float64)
            for _ in range(3)
        ]
        for j, target in enumerate(TARGETS[i]):
            expected = pixels.smoothgrad(network, image, target, noise=noise)
            torch.testing.assert_close(
                made.maps[i, j], torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-8
            )


@pytest.mark.parametrize("baseline", ["grey", "blur"])
@pytest.mark.parametrize("name", NAMES)
def test_integratedgradients_is_the_oracles(name: str, baseline: str) -> None:
    network, images = networks.make(name), networks.make_images(2)
    options = {"steps": 5, "signed": True}
    made = explainer(network, "integratedgradients", baseline=baseline, **options)
    starts = blurred(images) if baseline == "blur" else torch.zeros_like(images)
    found = made(images, targets=TARGETS).maps
    for i, (image, start) in enumerate(zip(images, starts, strict=True)):
        expected = pixels.integratedgradients(network, image, 3, start=start, **options)
        torch.testing.assert_close(found[i, 1], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "near"),
    [("convolutions", 1e-4), ("channels last", 1e-4), ("tokens", 1e-4), ("with relu", 1e-2)],
)
def test_integratedgradients_completeness(name: str, near: float) -> None:
    """The signed map adds up to the score less the baseline's; a ReLU's kinks take more steps."""
    network, images = networks.make(name), networks.make_images(2)
    explain = explainer(network, "integratedgradients", steps=64, signed=True)
    made = explain(images, targets=[[0, 1, 2, 3, 4]] * 2)
    with torch.no_grad():
        rise = made.logits - network(torch.zeros_like(images[:1]))
    assert (made.maps.sum((-2, -1)) - rise).abs().max() < near * rise.abs().max()


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_the_steps_are_gauss_and_legendres(steps: int) -> None:
    places, weights = np.polynomial.legendre.leggauss(steps)
    found = gauss_legendre(steps)
    np.testing.assert_allclose(found[0], (places + 1) / 2, atol=1e-13)
    np.testing.assert_allclose(found[1], weights / 2, atol=1e-13)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", ["with relu", "with relu in place"])
def test_guidedgradcam_is_the_oracles(name: str, signed: bool) -> None:
    network = networks.make(name)
    made = explainer(network, "guidedgradcam", "tapped", signed=signed)
    maps = made(networks.make_images(2), targets=TARGETS).maps
    assert_is(maps, network, pixels.guidedgradcam, signed=signed)


@pytest.mark.parametrize("relu", [nn.ReLU6(), nn.ReLU(inplace=True), nn.Hardtanh(0, 3)])
def test_what_rectifies_is_guided_whatever_its_kind(relu: nn.Module) -> None:
    """Far under 6 they are all the same."""
    network, images = networks.make("with relu"), networks.make_images(2)
    expected = explainer(network, "guidedgradcam", "tapped")(images).maps
    network.relu = relu
    torch.testing.assert_close(explainer(network, "guidedgradcam", "tapped")(images).maps, expected)


def test_a_network_without_relus_is_told_so() -> None:
    with pytest.raises(LayerError, match="none is run by this network.*inputxgradient"):
        explainer(networks.make("channels last"), "guidedgradcam")(networks.make_images(1))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", ["with relu", "convolutions", "pooled", "channels last"])
def test_fullgrad_is_the_oracles(name: str, signed: bool) -> None:
    network = networks.make(name)
    made = explainer(network, "fullgrad", signed=signed)(networks.make_images(2), targets=TARGETS)
    assert_is(made.maps, network, pixels.fullgrad, signed=signed)


def test_fullgrads_signed_map_and_the_heads_bias_are_the_logit() -> None:
    network, images = networks.make("pooled"), networks.make_images(2)
    made = explainer(network, "fullgrad", signed=True)(images, targets=[[0, 1, 2, 3, 4]] * 2)
    torch.testing.assert_close(made.maps.sum((-2, -1)) + network.head.bias, made.logits)


def test_layers_play_no_part_and_one_map_is_made_of_several() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    one = explainer(network, "inputxgradient")(images)
    several = explainer(network, "inputxgradient", "stem + tapped")(images)
    assert several.layer == "pixels"
    assert several.fusion == ""
    assert torch.equal(one.maps, several.maps)
    assert one.cost == several.cost == 2 + 2 * 3


def test_guidedgradcam_is_fused_from_several_layers() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    made = explainer(network, "guidedgradcam", "stem + tapped", fusion="mean")(images)
    assert made.layer == "stem + tapped"
    assert made.maps.shape[-2:] == networks.SIZE


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("smoothgrad", {"samples": 0}),
        ("integratedgradients", {"steps": 0}),
        ("integratedgradients", {"baseline": "white"}),
    ],
)
def test_options_that_mean_nothing(method: str, options: dict) -> None:
    with pytest.raises(UsageError, match="1 or more|1 step or more"):
        explainer(networks.make("with relu"), method, **options)(networks.make_images(1))


def test_cost_is_that_of_the_passes() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    passes = {"smoothgrad": {"samples": 3}, "integratedgradients": {"steps": 3}}
    for method, options in passes.items():
        explain = explainer(network, method, **options)
        assert explain(images, top_k=2).cost == 1 + 3 * (1 + 2 * 2)
        assert explain.method.cost.of(6, 2, options=explain.options) == 1 + 3 * (1 + 2 * 2)
    for method, cost in (("gradient", 2 + 2 * 2), ("fullgrad", 3 + 2 * 2)):
        explain = explainer(network, method)
        assert explain(images, top_k=2).cost == cost == explain.method.cost.of(6, 2)
    assert explainer(network, "guidedgradcam", "tapped")(images, top_k=2).cost == 2 + 4 * 2
