import pytest
import torch
from torch import nn

from mitate import imports
from mitate.errors import ClassifierError
from mitate.models.architecture import (
    LAYERS,
    ConcatPool,
    Features,
    build,
    describe,
    input_channels,
    number_of_outputs,
)

INSTANCES = [
    nn.Linear(3, 4, bias=False),
    nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2),
    nn.BatchNorm1d(4, eps=1e-3),
    nn.BatchNorm2d(4),
    nn.LayerNorm((3, 4), eps=1e-4),
    nn.Dropout(0.3),
    nn.Dropout2d(0.2),
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.LeakyReLU(0.3),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Identity(),
    nn.Flatten(2),
    nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    nn.AvgPool2d((2, 3)),
    nn.AdaptiveAvgPool2d((2, None)),
    nn.AdaptiveMaxPool2d(1),
    ConcatPool(2),
]


@pytest.mark.parametrize("layer", INSTANCES, ids=lambda layer: type(layer).__name__)
def test_a_layer_is_built_again_as_it_was(layer: nn.Module) -> None:
    again = build(describe(layer))
    assert repr(again) == repr(layer)
    assert {n: v.shape for n, v in again.state_dict().items()} == {
        n: v.shape for n, v in layer.state_dict().items()
    }


def test_every_listed_layer_is_tried() -> None:
    assert {type(layer).__name__ for layer in INSTANCES} == set(LAYERS)


def test_a_layer_with_ways_of_its_own_is_not_taken_for_the_listed_one() -> None:
    class Linear(nn.Linear):
        pass

    with pytest.raises(ClassifierError, match="cannot be built again"):
        describe(Linear(2, 2))


def test_timm_and_torchvision_networks() -> None:
    timm, models = imports.timm(), imports.torchvision("models")
    assert describe(timm.create_model("test_convnext", num_classes=3)) == {
        "kind": "timm",
        "name": "test_convnext.r160_in1k",
        "arguments": {"num_classes": 3},
    }
    for name, arguments in (("resnet18", {}), ("mobilenet_v3_small", {"num_classes": 4})):
        network = models.get_model(name, weights=None, **arguments)
        assert describe(network) == {"kind": "torchvision", "name": name, "arguments": arguments}
    with pytest.raises(ClassifierError, match="no architecture of torchvision as it stands"):
        describe(models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1]))


def test_fastais_bodies() -> None:
    body = Features(imports.timm().create_model("test_convnext", num_classes=0))
    again = build(describe(nn.Sequential(body, nn.Linear(3, 3))))
    images = torch.randn(1, 3, 64, 64)
    assert isinstance(again[0], Features)
    assert again[0](images).shape == body(images).shape
    cut = nn.Sequential(*list(imports.torchvision("models").resnet18(weights=None).children())[:-2])
    assert describe(cut) == {"kind": "cut torchvision", "name": "resnet18", "upto": -2}
    assert build(describe(cut))(images).shape == (1, 512, 2, 2)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({}, "kind None is not known"),
        ({"kind": "timm"}, "kind 'timm' is not known"),
        ({"kind": "timm", "name": "resnet19", "arguments": {}}, "the nearest are .*resnet18"),
        (
            {"kind": "timm", "name": "squeezenet1_0", "arguments": {}},
            "but torchvision has: torchvision:squeezenet1_0",
        ),
        (
            {"kind": "torchvision", "name": "convnext_atto", "arguments": {}},
            "but timm has: timm:convnext_atto",
        ),
        ({"kind": "timm", "name": "resnet18", "arguments": {"pretrained": 1}}, "'pretrained'"),
        ({"kind": "layer", "type": "Bilinear", "arguments": {}}, "kind 'layer' is not known"),
        ({"kind": "layer", "type": "Linear", "arguments": {}}, "cannot be built"),
    ],
)
def test_recipes_that_give_nothing(recipe: dict, message: str) -> None:
    with pytest.raises(ClassifierError, match=message):
        build(recipe)


def test_what_goes_in_and_what_comes_out() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 7), nn.ReLU())
    assert (input_channels(network), number_of_outputs(network)) == (1, 7)
    assert (input_channels(nn.ReLU()), number_of_outputs(nn.ReLU())) == (None, None)
    assert number_of_outputs(nn.Conv2d(1, 9, 1)) == 9
