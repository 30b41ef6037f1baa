import pytest
import torch

from mitate.auditing.measuring import measure
from mitate.auditing.robustness import max_sensitivity, spread, stability
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.tensors import generators
from oracles import metrics, networks


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_max_sensitivity_against_loops():
    images, classes = drawn(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)
    seen = []

    def explain(noisy, _):
        seen.append(noisy)
        return noisy.square().mean(1)

    maps = explain(images, classes)
    seen.clear()
    given = generators(0, list(images))
    found = max_sensitivity(maps, images, classes, given, explain, samples=5, radius=0.1)
    for place in range(2):
        span = (images[place].max() - images[place].min()).item()
        assert max((noisy[place] - images[place]).abs().max() for noisy in seen) <= 0.1 * span
        changes = [(noisy[place].square().mean(0) - maps[place]).norm() for noisy in seen]
        assert found[place].item() == pytest.approx((max(changes) / maps[place].norm()).item())


def test_a_map_that_does_not_look_is_not_sensitive_and_none_is_told_of_zeros():
    maps = torch.stack([torch.ones(2, 2), torch.zeros(2, 2), torch.ones(2, 2)])
    images = drawn(3, 1, 4, 4).float()
    broken = maps.clone()
    broken[2, 0, 0] = float("nan")
    given = generators(0, list(images))
    found = max_sensitivity(maps, images, torch.zeros(3).long(), given, lambda *_: broken)
    assert found.isnan().tolist() == [False, True, True]
    assert found[0] == 0


def test_stability_against_loops():
    maps, variants = drawn(2, 3, 4), drawn(2, 5, 3, 4, seed=1)
    for place in range(2):
        own = maps[place].flatten().tolist()
        expected = [
            metrics.correlation(own, variants[place, number].flatten().tolist())
            for number in range(5)
        ]
        assert stability(maps, variants)[place].item() == pytest.approx(sum(expected) / 5)


def test_the_picture_of_what_is_not_stable_by_hand():
    maps, variants = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[[2.0, 0.0]]]])
    assert spread(maps, variants).tolist() == [[[0, 0.25]]]


def test_a_control_that_is_symmetric_is_stable():
    classifier = Classifier.from_module(networks.make("with relu"), classes=5)
    images, classes = networks.make_images(2), torch.tensor([0, 1])
    explainers = {name: Explainer(classifier, name, "tapped") for name in ("centre", "random")}
    maps = {name: e(images, targets=classes).maps[:, 0] for name, e in explainers.items()}
    found = measure(classifier, images, classes, maps, ["stability"], explainers=explainers)
    assert found.values["centre", "stability"].tolist() == pytest.approx([1, 1])
    assert (found.values["random", "stability"] < 0.7).all()
    assert found.spreads["centre"].max() < 1e-12
    assert found.spreads["random"].shape == (2, 4, 6)
