import math

import pytest
import torch
from torch import nn

from mitate.auditing.measuring import measure
from mitate.auditing.randomisation import (
    cut,
    histogram_entropy,
    learned_layers,
    random_logit,
    randomised,
)
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


def test_the_weights_are_put_back_whatever_happens():
    made = network()
    before, homes = state(made), [weight.data_ptr() for weight in made.parameters()]

    def fail():
        with randomised(learned_layers(made), 0):
            assert not torch.equal(made.head.weight, before["head.weight"])
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert all(torch.equal(weight, before[name]) for name, weight in made.state_dict().items())
    assert [weight.data_ptr() for weight in made.parameters()] == homes


def test_weights_keep_their_mean_and_deviation_and_no_two_layers_are_alike():
    made = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 50))
    before = state(made)
    with randomised(learned_layers(made), 0):
        for place in (0, 1):
            drawn, own = made[place].weight.detach(), before[f"{place}.weight"]
            assert (drawn.mean() - own.mean()).abs() < 0.01
            assert drawn.std() / own.std() == pytest.approx(1, abs=0.05)
            assert torch.corrcoef(torch.stack([drawn.flatten(), own.flatten()]))[0, 1].abs() < 0.1
        pair = torch.stack([made[place].weight.detach().flatten() for place in (0, 1)])
        assert torch.corrcoef(pair)[0, 1].abs() < 0.1


def test_layers_without_anything_to_draw_are_left_out_and_shared_weights_come_once():
    made = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    made[2].weight = made[0].weight
    layers = learned_layers(made)
    assert len(layers) == 2
    assert layers[0] == (made[0].weight, made[0].bias)
    assert layers[1] == (made[2].bias,)


def test_stages_from_all_layers_to_the_last():
    layers = learned_layers(nn.Sequential(*(nn.Linear(2, 2) for _ in range(5))))
    found = cut(layers, 3)
    assert [len(stage) for stage in found] == [5, 4, 2]
    assert all(stage[-1] == layers[-1] for stage in found)
    assert [len(stage) for stage in cut(layers, 99)] == [5, 4, 3, 2, 1]


def test_a_layer_is_drawn_alike_in_every_stage():
    made = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    layers = learned_layers(made)
    with randomised(layers, 0):
        both = made[1].weight.clone()
    with randomised(layers[1:], 0):
        assert torch.equal(made[1].weight, both)


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
    layers, total = learned_layers(made), torch.zeros(3, dtype=torch.float64)
    from mitate.auditing.similarity import spearman

    for kept in (layers[len(layers) // 2 :], layers):
        with randomised(kept, 3):
            total += spearman(maps, explainer(images, targets=CLASSES).maps[:, 0])
    torch.testing.assert_close(found, (total / 2).float())
