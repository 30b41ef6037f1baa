import math

import pytest
import torch

from mitate.auditing.measuring import measure
from mitate.auditing.randomisation import histogram_entropy, random_logit
from mitate.auditing.redrawing import Redrawn, cut
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.tensors import generators
from oracles import networks

NAMES = ["efficient_randomisation", "cascading_randomisation", "random_logit"]
CLASSES = torch.tensor([0, 3, 4])


def network():
    return networks.make("with relu")


def state(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def test_entropy_by_hand():
    maps = torch.tensor([[[0.0, 0], [1, 1]], [[0.0, 1], [2, 3]], [[7.0, 7], [7, 7]]])
    assert histogram_entropy(maps).tolist() == pytest.approx([math.log(2), math.log(4), 0])


def test_random_logit_asks_for_another_class():
    asked = []

    def explain(images, classes):
        asked.extend(classes.tolist())
        return images[:, 0]

    images = torch.rand(40, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(40) % 3
    given = generators(0, list(images))
    found = random_logit(images[:, 0], images, classes, 3, given, explain)
    assert found.tolist() == pytest.approx([1] * 40)
    assert all(other != own for other, own in zip(asked, classes.tolist(), strict=True))
    assert set(asked) == {0, 1, 2}


def test_one_class_has_no_other():
    maps = torch.rand(2, 3, 3)
    found = random_logit(maps, maps[:, None], torch.zeros(2).long(), 1, [], lambda *_: maps)
    assert found.isnan().all()


def test_controls_ignore_the_network_and_maps_of_gradients_do_not():
    made = network()
    classifier = Classifier.from_module(made, classes=5)
    images, before = networks.make_images(3), state(made)
    explainers = {
        "hirescam": Explainer(classifier, "hirescam", "tapped", signed=True),
        "centre": Explainer(classifier, "centre", "tapped"),
    }
    maps = {name: e(images, targets=CLASSES).maps[:, 0] for name, e in explainers.items()}
    found = measure(classifier, images, CLASSES, maps, NAMES, explainers=explainers)
    values = found.values
    assert values["centre", "efficient_randomisation"].tolist() == [0, 0, 0]
    assert values["centre", "cascading_randomisation"].tolist() == pytest.approx([1, 1, 1])
    assert values["centre", "random_logit"].tolist() == pytest.approx([1, 1, 1])
    assert (values["hirescam", "cascading_randomisation"] < 0.9).all()
    assert (values["hirescam", "random_logit"] < 0.99).all()
    assert all(torch.equal(weight, before[name]) for name, weight in made.state_dict().items())


def test_cascading_is_the_mean_over_stages_against_a_loop():
    made = network()
    classifier = Classifier.from_module(made, classes=5)
    images = networks.make_images(3)
    explainer = Explainer(classifier, "hirescam", "tapped", signed=True)
    maps = explainer(images, targets=CLASSES).maps[:, 0]
    name = "cascading_randomisation"
    found = measure(
        classifier, images, CLASSES, {"a": maps}, [name], explainers={"a": explainer},
        options={"stages": 2}, seed=3,
    ).values["a", name]  # fmt: skip
    redrawn, total = Redrawn(made, 3), torch.zeros(3, dtype=torch.float64)
    from mitate.auditing.similarity import spearman

    for stage in cut(redrawn.layers, 2):
        with redrawn.entered(stage):
            total += spearman(maps, explainer(images, targets=CLASSES).maps[:, 0])
    torch.testing.assert_close(found, (total / 2).float())
