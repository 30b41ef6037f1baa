import pytest
import torch
from torch import Tensor, nn

from largest import Largest
from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.methods.perturbed import _coarse_masks, blurred
from mitate.models.classifier import Classifier
from mitate.tensors import generators
from oracles import masked, networks

TARGETS = [[0, 3]] * 2


def explainer(network: networks.Halves, method: str, **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, method, network.layer, **options)


def assert_near(made: Tensor, expected: list[list[float]]) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(made, wanted, atol=1e-10, rtol=1e-8)


def test_blurred_is_the_oracles() -> None:
    images = networks.make_images(2)
    for image, made in zip(images, blurred(images), strict=True):
        assert_near(made, masked.blurred(image, 31, 50).tolist())
    large = networks.make_images(1, size=(30, 40))
    assert_near(blurred(large)[0], masked.blurred(large[0], 51, 50).tolist())


@pytest.mark.parametrize("options", [{}, {"groups": 4}, {"groups": 2, "percentile": 40.0}])
@pytest.mark.parametrize("name", networks.MAKERS)
def test_groupcam_is_the_oracles(name: str, options: dict) -> None:
    network, images = networks.make(name), networks.make_images(2)
    made = explainer(network, "groupcam", batch_size=3, **options)(images, targets=TARGETS).maps
    for i, image in enumerate(images):
        behind = masked.blurred(image, 31, 50)
        for j, target in enumerate(TARGETS[i]):
            expected = masked.groupcam(network, image, target, blurred=behind, **options)
            assert_near(made[i, j], expected)
    assert made.any()


@pytest.mark.parametrize("name", networks.MAKERS)
def test_rise_is_the_oracles(name: str) -> None:
    network, images = networks.make(name), networks.make_images(2)
    options = {"samples": 20, "cells": 5, "keep": 0.3}
    made = explainer(network, "rise", seed=4, batch_size=7, **options)(images, targets=TARGETS).maps
    for i, (image, generator) in enumerate(zip(images, generators(4, list(images)), strict=True)):
        cells, shifts = _coarse_masks(20, 5, 0.3, networks.SIZE, generator)
        masks = [
            masked.rise_mask(kept.double().tolist(), tuple(shift.tolist()), *networks.SIZE)
            for kept, shift in zip(cells, shifts, strict=True)
        ]
        for j, target in enumerate(TARGETS[i]):
            drawn = torch.tensor(masks, dtype=torch.float64)
            pixels = masked.rise(network, image, target, masks=drawn, keep=0.3)
            assert_near(made[i, j], masked.averaged(pixels, *made.shape[-2:]))


def test_rises_cells_and_shifts_are_drawn_evenly() -> None:
    kept, shifts = _coarse_masks(4000, 4, 0.3, (16, 30), torch.Generator().manual_seed(0))
    assert (kept.float().mean(0) - 0.3).abs().max() < 0.04
    for axis, steps in ((0, 4), (1, 8)):
        share = shifts[:, axis].bincount(minlength=steps) / 4000
        assert len(share) == steps
        assert (share - 1 / steps).abs().max() < 0.03


@pytest.mark.parametrize("fill", ["grey", "blur"])
@pytest.mark.parametrize("name", networks.MAKERS)
def test_occlusion_is_the_oracles(name: str, fill: str) -> None:
    network, images = networks.make(name), networks.make_images(2)
    options = {"window": 0.25, "stride": 0.125, "fill": fill}  # pixels: 4 x 6, every 2 x 3
    made = explainer(network, "occlusion", batch_size=5, **options)(images, targets=TARGETS)
    assert made.cost == 1 + 7 * 7
    for i, image in enumerate(images):
        behind = masked.blurred(image, 31, 50) if fill == "blur" else torch.zeros_like(image)
        for j, target in enumerate(TARGETS[i]):
            pixels = masked.occlusion(
                network, image, target, window=(4, 6), stride=(2, 3), fill=behind
            )
            assert_near(made.maps[i, j], masked.averaged(pixels, *made.maps.shape[-2:]))
    assert (made.maps < 0).any()


def test_the_last_window_crosses_the_edge() -> None:
    network, images = networks.make("pooled"), networks.make_images(1)
    made = explainer(network, "occlusion", window=0.5, stride=0.375)(images, targets=[2])
    pixels = masked.occlusion(
        network,
        images[0],
        2,
        window=(8, 12),
        stride=(6, 9),
        fill=torch.zeros_like(images[0]),
    )
    assert made.cost == 1 + 3 * 3
    assert_near(made.maps[0, 0], masked.averaged(pixels, 4, 6))


@pytest.mark.parametrize("share", [0.01, 0.07, 0.09, 0.3, 1.0])
def test_windows_side_by_side_cover_every_pixel(share: float) -> None:
    """A classifier that sees any hidden pixel: what falls nowhere was not hidden."""
    network = networks.make("pooled")
    for parameter in network.parameters():
        torch.nn.init.ones_(parameter)
    network.head.weight.data[1:] = 0
    images = torch.ones(1, 3, *networks.SIZE, dtype=torch.float64) / 100
    made = explainer(network, "occlusion", window=share, stride=share)(images, targets=[0])
    assert (made.maps > 0).all()


@pytest.mark.parametrize(
    ("method", "few", "many"),
    [
        ("rise", {"samples": 20}, {"samples": 200}),
        ("occlusion", {"stride": 0.2}, {"stride": 0.02}),
        ("groupcam", {"groups": 2}, {"groups": 32}),
    ],
)
def test_memory_does_not_depend_on_the_number_of_masks(method: str, few: dict, many: dict) -> None:
    network = nn.Sequential(nn.Conv2d(3, 32, 8, stride=16), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier.from_module(network.append(nn.Linear(32, 4)))
    largest = []
    for options in (few, many):
        explain = Explainer(classifier, method, "0", batch_size=4, **options)
        with Largest() as watch:
            explain(torch.randn(1, 3, 96, 96), top_k=2)
        largest.append(watch.numbers)
    assert largest[0] == largest[1]


@pytest.mark.parametrize(
    ("method", "options", "most"),
    [
        ("rise", {"samples": 30}, 1 + 30),
        ("groupcam", {"groups": 32}, 2 + 3 * (2 + 32)),
        ("occlusion", {"window": 0.3, "stride": 0.1}, 1 + 8 * 8),
    ],
)
def test_cost_is_that_of_the_forwards_that_were_run(method: str, options: dict, most: int) -> None:
    network, seen = networks.make("with relu"), []
    network.stem.register_forward_hook(lambda module, given, made: seen.append(len(made)))
    explain = explainer(network, method, **options)
    made, derived = explain(networks.make_images(2), top_k=3), 3 * explain.method.cost.per_class
    assert made.cost == sum(seen) / 2 + derived
    assert explain.method.cost.of(6, 3, options=explain.options) == most
    assert made.cost == most or (method == "groupcam" and made.cost < most)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("rise", {"samples": 0}),
        ("rise", {"cells": 0}),
        ("rise", {"keep": 0.0}),
        ("rise", {"keep": 1.5}),
        ("occlusion", {"window": 0.1, "stride": 0.2}),
        ("occlusion", {"stride": 0.0}),
        ("occlusion", {"window": 1.2}),
        ("occlusion", {"fill": "black"}),
        ("groupcam", {"groups": 0}),
        ("groupcam", {"percentile": 100.0}),
    ],
)
def test_options_that_make_no_mask_are_refused(method: str, options: dict) -> None:
    with pytest.raises(UsageError, match="use |no fill is called|window and stride are shares"):
        explainer(networks.make("pooled"), method, **options)(networks.make_images(1))
