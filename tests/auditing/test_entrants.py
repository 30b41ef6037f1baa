import pytest
import torch
from torch import nn

import tiny
from mitate import imports
from mitate.auditing.entrants import METHODS_AT_AUTO, earlier_layers, line_up
from mitate.errors import LayerError, UsageError
from mitate.explain.methods import METHODS
from mitate.models.classifier import Classifier


@pytest.fixture(scope="module")
def classifier():
    return tiny.classifier()


@pytest.fixture(scope="module")
def probe():
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def names(entrants):
    return [one.name for one in entrants]


def test_the_default(classifier, probe):
    entrants, left_out = line_up(classifier, probe)
    assert left_out == []
    assert names(entrants) == [
        *(f"{method} stages.3" for method in METHODS_AT_AUTO[:-1]),
        "glance stem + stages.3",
        *(f"{m} stages.{stage}" for stage in (2, 1, 0) for m in ("hirescam", "layercam")),
        "random stages.3",
        "centre stages.3",
        "edges stages.3",
        "edges stages.0",
        "other class: gradcam stages.3",
        "shifted: gradcam stages.3",
    ]
    assert [one.is_control for one in entrants] == [False] * 13 + [True] * 6


@pytest.mark.parametrize(
    ("network", "size", "stages"),
    [
        ("mobilenetv2_100", 128, ["blocks.4", "blocks.2", "blocks.1"]),
        ("resnet18", 128, ["layer3", "layer2", "layer1"]),
        ("convnext_atto", 128, ["stages.2", "stages.1", "stages.0"]),
        ("vit_tiny_patch16_224", 224, ["blocks.5"]),
    ],
)
def test_an_earlier_layer_is_the_end_of_its_stage(network, size, stages):
    made = Classifier.from_module(imports.timm().create_model(network).eval())
    assert earlier_layers(made, torch.randn(1, 3, size, size)) == stages


VIT = "vit_tiny_patch16_224"
TOKENS = {"img_size": 32, "depth": 2, "patch_size": 8}


def made_for(method, classifier):
    """A classifier that a method can be tried on."""
    if METHODS[method].family == "attention":
        network = imports.timm().create_model(VIT, num_classes=3, **TOKENS)
    elif method == "guidedgradcam":
        convolution, head = nn.Conv2d(3, 4, 3, stride=4), nn.Linear(4, 3)
        pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network = nn.Sequential(convolution, nn.ReLU(), pooling, head)
    else:
        return classifier
    return Classifier.from_module(network)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_that_looks_at_the_network_has_its_controls(method, classifier, probe):
    if METHODS[method].is_control:
        pytest.skip("controls alone say nothing")
    small = probe if method == "cam" else probe[..., :32, :32]
    entrants, _ = line_up(made_for(method, classifier), small, methods=[method])
    kinds = [one.kind for one in entrants]
    assert kinds[0] == "method"
    assert kinds.count("control") >= 3
    assert all(one.maps(small, torch.tensor([1])).ndim == 3 for one in entrants)


def test_methods_and_layers_that_are_named_are_crossed(classifier, probe):
    entrants, _ = line_up(
        classifier, probe, methods=["gradcam", "Layer-CAM"], layers=["stages.1", "auto"]
    )
    assert names(one for one in entrants if not one.is_control) == [
        "gradcam stages.1",
        "layercam stages.1",
        "gradcam stages.3",
        "layercam stages.3",
    ]


def test_a_layer_that_auto_takes_is_taken_once(classifier, probe):
    entrants, _ = line_up(classifier, probe, methods=["gradcam"], layers=["auto", "stages.3"])
    assert names(entrants)[:2] == ["gradcam stages.3", "random stages.3"]


def test_earlier_stands_for_the_earlier_layers(classifier, probe):
    entrants, _ = line_up(classifier, probe, methods=["gradcam"], layers=["earlier"])
    methods = [one for one in entrants if not one.is_control]
    assert names(methods) == ["gradcam stages.2", "gradcam stages.1", "gradcam stages.0"]
    assert [one.cells for one in methods] == [16, 64, 256]


def test_what_was_named_and_cannot_be_used_is_told(classifier, probe):
    with pytest.raises(LayerError, match=r"stages\.7"):
        line_up(classifier, probe, methods=["gradcam"], layers=["stages.7"])
    with pytest.raises(UsageError, match="gradcam"):
        line_up(classifier, probe, methods=["gradcan"])
    with pytest.raises(UsageError, match="attention"):
        line_up(classifier, probe, methods=["rollout"])


def test_what_a_network_does_not_allow_is_left_out_of_the_default():
    class Pooled(torch.nn.Module):
        """Its gradients are there, and its graph cannot be traced."""

        def __init__(self):
            super().__init__()
            self.features = torch.nn.Conv2d(3, 4, 3, stride=8)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, images):
            return self.head(self.features(images).relu().mean((2, 3)))

    classifier = Classifier.from_module(Pooled().eval())
    entrants, left_out = line_up(classifier, torch.randn(1, 3, 64, 64))
    made = {one.method for one in entrants if not one.is_control}
    assert made | {line.split(" ")[0] for line in left_out} == set(METHODS_AT_AUTO)
    assert "gradcam" in made


def test_controls_alone_are_refused(classifier, probe):
    with pytest.raises(UsageError, match="controls alone"):
        line_up(classifier, probe, methods=["centre", "edges"])


@pytest.fixture(scope="module")
def entrants(classifier, probe):
    found, _ = line_up(classifier, probe, methods=["gradcam"], layers=["stages.2"], seed=4)
    return {one.kind if one.is_control else "method": one for one in found}


@pytest.fixture(scope="module")
def inputs():
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_a_method_makes_its_own(entrants, inputs):
    classes = torch.tensor([0, 1, 2, 0])
    maps = entrants["method"].maps(inputs, classes)
    assert torch.equal(maps, entrants["method"].explainer(inputs, targets=classes).maps[:, 0])


def test_another_class_is_any_but_the_audited_one(entrants, inputs):
    one = entrants["other class"]
    for number in range(3):
        classes = torch.full((4,), number)
        drawn = one._others(inputs, classes)
        assert (drawn != classes).all()
        assert torch.equal(drawn[2:], one._others(inputs[2:], classes[2:]))
    maps = one.maps(inputs, classes)
    assert torch.equal(maps, one.explainer(inputs, targets=drawn).maps[:, 0])


def test_a_shifted_map_is_the_same_elsewhere(entrants, inputs):
    classes = torch.tensor([0, 1, 2, 0])
    own = entrants["method"].maps(inputs, classes)
    moved = entrants["shifted"].maps(inputs, classes)
    assert torch.equal(moved.flatten(1).sort().values, own.flatten(1).sort().values)
    assert (moved != own).flatten(1).any(1).all()
    alone = entrants["shifted"].maps(inputs[2:3], classes[2:3])
    torch.testing.assert_close(alone, moved[2:3])


def test_a_map_of_one_cell_has_no_elsewhere(entrants, inputs):
    maps = torch.ones(4, 1, 1)
    assert torch.equal(entrants["shifted"]._shifted(inputs, maps), maps)


@pytest.mark.filterwarnings("ignore:a network of one output")
def test_a_network_of_one_class_has_no_other_class():
    classifier = tiny.classifier(names=("blast",))
    entrants, _ = line_up(classifier, torch.randn(1, 3, 64, 64), methods=["gradcam"])
    assert "other class" not in {one.kind for one in entrants}
