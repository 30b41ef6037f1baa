import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.auditing.curves import FRACTIONS, IMPUTED
from mitate.auditing.faithfulness import (
    adcc,
    aopc,
    average_drop,
    coherency,
    complexity,
    faithfulness_correlation,
    gain,
    increase,
    infidelity,
    region_sums,
    road,
    road_least,
    road_most,
)
from mitate.auditing.measuring import measure
from mitate.auditing.ranking import tie_orders
from mitate.auditing.steps import Regions
from mitate.models.classifier import Classifier
from mitate.tensors import generators
from oracles import metrics

CURVES = ["deletion", "insertion", "early_deletion", "log_deletion", "log_insertion", "aopc"]
SIZE = (4, 5)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(seed=0, number=2):
    network = metrics.made(size=SIZE, seed=seed)
    images = drawn(number, 3, *SIZE, seed=seed + 1)
    classes = torch.tensor([2, 0, 1] * number)[:number]
    maps = drawn(number, *SIZE, seed=seed + 2).round(decimals=0)  # with ties
    return Classifier.from_module(network, classes=3), images, classes, maps


def likely(classifier, target):
    def of(image):
        return classifier.network(image[None]).softmax(-1)[0, int(target)].item()

    return of


@pytest.mark.parametrize("filling", ["mean", "blur"])
@pytest.mark.parametrize("seed", [0, 3])
def test_curves_against_loops(filling, seed):
    classifier, images, classes, maps = case(seed)
    found = measure(classifier, images, classes, {"a": maps}, CURVES, options={"filling": filling})
    from mitate.explain.methods.perturbed import blurred

    behinds = blurred(images) if filling == "blur" else images.mean((-2, -1), keepdim=True)
    ties = tie_orders(20, generators(0, list(images)), images.device)
    for place, image in enumerate(images):
        of = likely(classifier, classes[place])
        behind = behinds[place].expand_as(image)
        pixels = metrics.order(maps[place].tolist(), ties[place].tolist())
        most = metrics.removal_curve(of, image, behind, pixels, FRACTIONS)
        shown = metrics.removal_curve(of, behind, image, pixels, FRACTIONS)
        logs = [math.log(fraction) for fraction in FRACTIONS[1:]]
        expected = {
            "deletion": metrics.trapezoids(most, FRACTIONS),
            "insertion": metrics.trapezoids(shown, FRACTIONS),
            "early_deletion": metrics.trapezoids(most[:9], FRACTIONS[:9]),
            "log_deletion": metrics.trapezoids(most[1:], logs),
            "log_insertion": metrics.trapezoids(shown[1:], logs),
            "aopc": of(image) - metrics.trapezoids(most, FRACTIONS),
        }
        values = {name: found.values["a", name][place].item() for name in CURVES}
        assert values == pytest.approx(expected, abs=1e-6)
        assert found.curves["a", "deletion"][place].tolist() == pytest.approx(most, abs=1e-6)
        assert found.curves["a", "insertion"][place].tolist() == pytest.approx(shown, abs=1e-6)


def test_road_against_the_dense_solution_without_noise(monkeypatch):
    monkeypatch.setattr("mitate.auditing.sample.NOISE", 0.0)
    classifier, images, classes, maps = case()
    found = measure(classifier, images, classes, {"a": maps}, ["road", "road_most", "road_least"])
    ties = tie_orders(20, generators(0, list(images)), images.device)
    for place, image in enumerate(images):
        pixels = metrics.order(maps[place].tolist(), ties[place].tolist())
        means = []
        for listed in (pixels, pixels[::-1]):
            heights = []
            for fraction in IMPUTED:
                missing = torch.zeros(20, dtype=torch.bool)
                missing[listed[: round(fraction * 20)]] = True
                filled = metrics.imputed(image, missing.reshape(SIZE))
                heights.append(likely(classifier, classes[place])(filled))
            means.append(sum(heights) / len(heights))
        assert found.values["a", "road_most"][place].item() == pytest.approx(means[0], abs=0.02)
        assert found.values["a", "road_least"][place].item() == pytest.approx(means[1], abs=0.02)
        both = (means[1] - means[0]) / 2
        assert found.values["a", "road"][place].item() == pytest.approx(both, abs=0.02)


def test_a_perfect_ranking_beats_its_reverse():
    """Of a class whose logit is a sum of pixels over 0, and another's that is always 0."""
    weights = torch.zeros(2, 1, 6, 6, dtype=torch.float64)
    weights[0] = 0.05 * drawn(6, 6).abs()
    classifier = Classifier.from_module(metrics.Linear(weights), classes=2)
    images = 1 + drawn(3, 1, 6, 6, seed=1).abs()
    images[..., ::2, ::2] = 0.0  # so that the mean takes something away
    maps = (weights[0] * (images - images.mean((-2, -1), keepdim=True)))[:, 0]
    entered = {"true": maps, "reverse": -maps}
    names = [*CURVES, "road_most"]
    found = measure(
        classifier,
        images,
        torch.zeros(3, dtype=torch.long),
        entered,
        names,
        options={"filling": "mean"},
    ).values
    for lower in ("deletion", "early_deletion", "log_deletion"):
        assert (found["true", lower] < found["reverse", lower]).all()
    for higher in ("insertion", "log_insertion", "aopc"):
        assert (found["true", higher] > found["reverse", higher]).all()


@given(st.floats(0.01, 1000))
@settings(deadline=None, max_examples=5)
def test_curves_are_blind_to_positive_scale(scale):
    classifier, images, classes, maps = case()
    found = measure(
        classifier, images, classes, {"a": maps, "b": scale * maps},
        [*CURVES, "average_drop", "faithfulness_correlation", "infidelity"],
        options={"filling": "mean", "samples": 6},
    ).values  # fmt: skip
    for (name, metric), values in found.items():
        if name == "b":
            torch.testing.assert_close(values, found["a", metric], rtol=1e-4, atol=1e-6)


def test_cells_go_whole_where_the_ranking_is_of_the_own_grid():
    weights = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    weights[0, 0, :4, :4] = 1.0
    classifier = Classifier.from_module(metrics.Linear(weights), classes=2)
    images = 1 + drawn(1, 1, 8, 8).abs()
    maps = torch.tensor([[[3.0, 1.0], [2.0, 0.0]]])
    classes = torch.zeros(1, dtype=torch.long)
    options = {"filling": "mean", "ranking": "cells"}
    curve = measure(classifier, images, classes, {"a": maps}, ["insertion"], options=options).curves
    heights = curve["a", "insertion"][0]
    assert heights[FRACTIONS.index(0.3) :].unique().numel() == 1  # a quarter is the first cell


def test_road_by_hand():
    most, least = torch.tensor([[0.1, 0.3]]), torch.tensor([[0.9, 0.7]])
    assert road(most, least).item() == pytest.approx(0.3)
    assert road_most(most, least).item() == pytest.approx(0.2)
    assert road_least(most, least).item() == pytest.approx(0.8)


def test_drop_increase_and_gain_by_hand():
    own, masked = torch.tensor([0.8, 0.5, 0.0, 1.0]), torch.tensor([[0.2], [0.9], [0.3], [1.0]])
    assert average_drop(own, masked).tolist() == pytest.approx([0.75, 0, math.nan, 0], nan_ok=True)
    assert increase(own, masked).tolist() == [0, 1, 1, 0]
    assert gain(own, masked).tolist() == pytest.approx([0, 0.8, 0.3, math.nan], nan_ok=True)
    assert aopc(torch.tensor([0.7]), torch.full((1, len(FRACTIONS)), 0.2)).item() == pytest.approx(
        0.5
    )


def test_adcc_by_hand():
    maps = torch.tensor([[[0.0, 1.0], [2.0, 4.0]]])
    assert complexity(maps).item() == pytest.approx(7 / 16)
    assert coherency(maps, 3 * maps + 1).item() == pytest.approx(1)
    assert coherency(maps, -maps).item() == pytest.approx(0)
    own, masked = torch.tensor([0.8]), torch.tensor([[0.6]])
    expected = 3 / (1 / 1 + 1 / (9 / 16) + 1 / 0.75)
    assert adcc(maps, maps, maps, own, masked).item() == pytest.approx(expected)
    assert adcc(maps, -maps, maps, own, masked).item() == 0
    assert adcc(maps, torch.ones_like(maps), maps, own, masked).isnan().all()


def test_region_sums_against_loops():
    pixels = drawn(2, 6, 10)
    regions = Regions(5, 4, 0.3)
    seeds = generators(0, list(pixels))
    cells = regions.drawn(generators(0, list(pixels)))
    sums = region_sums(pixels, regions, seeds)
    for image in range(2):
        for number in range(5):
            total = sum(
                pixels[image, y, x].item()
                for y in range(6)
                for x in range(10)
                if cells[image, number, (2 * y + 1) * 4 // 12, (2 * x + 1) * 4 // 20]
            )
            assert sums[image, number].item() == pytest.approx(total)


def test_correlation_and_infidelity_against_loops():
    pixels, own = drawn(2, 16, 16), torch.tensor([0.9, 0.4], dtype=torch.float64)
    for function, square in ((faithfulness_correlation, False), (infidelity, True)):
        share = 0.06 if square else 0.2
        sums = region_sums(pixels, Regions(7, 16, share, square), generators(0, list(pixels)))
        hidden = drawn(2, 7, seed=5)
        found = function(pixels, generators(0, list(pixels)), own, hidden, samples=7)
        for image in range(2):
            s = sums[image].tolist()
            falls = (own[image] - hidden[image]).tolist()
            if square:
                scale = sum(a * b for a, b in zip(s, falls, strict=True)) / sum(a * a for a in s)
                expected = sum((scale * a - b) ** 2 for a, b in zip(s, falls, strict=True)) / 7
            else:
                expected = metrics.correlation(s, falls)
            assert found[image].item() == pytest.approx(expected)


def test_a_map_of_the_true_weights_is_faithful():
    """The logit of a linear network falls by the sum of what is hidden: nothing is unexplained."""
    weights = drawn(1, 1, 16, 16)
    classifier = Classifier.from_module(metrics.Linear(weights), classes=1, task="regression")
    images = drawn(2, 1, 16, 16, seed=1).abs()
    maps = (weights * (images - images.mean((-2, -1), keepdim=True)))[:, 0]
    names = ["faithfulness_correlation", "infidelity"]
    other = {"true": maps, "other": drawn(2, 16, 16, seed=9)}
    classes = torch.zeros(2, dtype=torch.long)
    found = measure(classifier, images, classes, other, names, options={"filling": "mean"}).values
    assert found["true", "faithfulness_correlation"].tolist() == pytest.approx([1, 1])
    assert found["true", "infidelity"].tolist() == pytest.approx([0, 0], abs=1e-9)
    assert (found["other", "faithfulness_correlation"] < 0.6).all()
    assert (found["other", "infidelity"] > found["true", "infidelity"] + 1e-4).all()
