"""Forwards that switch the recording of gradients by themselves."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mitate import Classifier, Explainer
from mitate.errors import LayerError
from mitate.explain.flags import UNSEEN
from mitate.explain.hooks import Place
from mitate.explain.layers import automatic
from mitate.explain.tap import tapped_forward
from oracles import networks

WAYS = {
    "as usual": nullcontext,
    "a flag": lambda: torch.set_grad_enabled(True),
    "with gradients": torch.enable_grad,
    "without": torch.no_grad,
    "inference": torch.inference_mode,
}


class Frozen(nn.Module):
    """Runs its body under a switch, and its head outside of it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Tanh())
        self.head, self.way, self.forwards = nn.Linear(8, 3), way, 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += 1
        with self.switched():
            features = self.body(images)
        return self.head(features.clone().mean((2, 3)))

    def switched(self) -> AbstractContextManager[None]:
        return WAYS[self.way]()


@pytest.mark.parametrize("way", ["a flag", "with gradients", "without"])
@pytest.mark.parametrize(
    ("method", "layer"),
    [
        ("gradcam", "auto"),
        ("gradcam", "body.0"),
        ("layercam", "body.0"),
        ("gradcampp", "auto"),
        ("glance", "body.3"),
    ],
)
def test_maps_are_those_of_a_forward_without_switches(method: str, layer: str, way: str) -> None:
    images = networks.make_images(2, size=(20, 24)).float()
    expected = Explainer(Frozen("as usual"), method, layer=layer)(images, 3)
    found = Explainer(Frozen(way), method, layer=layer)(images, 3)
    assert found.layer == expected.layer
    torch.testing.assert_close(found.maps, expected.maps)
    assert found.maps.flatten(2).any(-1).any()


@pytest.mark.parametrize("way", ["a flag", "with gradients"])
def test_layers_on_the_way_are_recorded_too(way: str) -> None:
    images = networks.make_images(2, size=(20, 24)).float()
    for method in ("layercam", "glance"):
        expected, found = (
            Explainer(Frozen(switch), method, layer=["body.0", "body.3"])(images, 3)
            for switch in ("as usual", way)
        )
        torch.testing.assert_close(found.maps, expected.maps)


def test_a_forward_that_needs_it_is_run_once_more_and_others_are_not() -> None:
    images = networks.make_images(1, size=(20, 24)).float()
    for way, forwards in {"as usual": 1, "a flag": 2}.items():
        network = Frozen(way).eval()
        place = Place(network.body[3], "body.3")
        tapped_forward(network, images, [place], read=lambda output: output, gradients=True)
        assert network.forwards == forwards
        assert torch.is_grad_enabled()
        tapped_forward(network, images, [place], read=lambda output: output, gradients=True)
        assert network.forwards == forwards + 1  # it is known now


@pytest.mark.parametrize("method", ["gradcam", "layercam", "inputxgradient", "smoothgrad"])
def test_where_no_gradient_arrives_the_reason_is_told(method: str) -> None:
    images = networks.make_images(1, size=(20, 24)).float()
    explanation = Explainer(Frozen("inference"), method)(images, 2)
    assert {(flag.kind, flag.reason) for flag in explanation.flags} == {("zero", UNSEEN)}
    assert len(explanation.flags) == 2


@pytest.mark.parametrize("method", ["scorecam", "occlusion", "eigencam"])
def test_methods_without_gradients_explain_what_runs_in_inference_mode(method: str) -> None:
    images = networks.make_images(1, size=(20, 24)).float()
    expected = Explainer(Frozen("as usual"), method)(images, 2)
    torch.testing.assert_close(
        Explainer(Frozen("inference"), method)(images, 2).maps, expected.maps
    )


class Scaled(nn.Module):
    """Has modules that give a number: a learned temperature, and a loss kept for later."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU())
        self.temperature, self.loss = Temperature(), nn.MSELoss()
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        self.told = self.loss(features, torch.zeros_like(features))
        return (self.head(features.mean((2, 3))) / self.temperature(images)).squeeze()


class Temperature(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(2.0))

    def forward(self, _images: Tensor) -> Tensor:
        return self.value


@pytest.mark.parametrize("method", ["gradcam", "glance", "scorecam", "ablationcam", "occlusion"])
def test_modules_that_give_a_number_are_no_layers(method: str) -> None:
    images = networks.make_images(2, size=(20, 24)).float()
    assert Explainer(Scaled(), method)(images, 2).maps.flatten(2).any(-1).any()
    read = Classifier.from_module(Scaled()).read
    assert automatic(Scaled(), images[:1], read=read).name == "body.1"
    with pytest.raises(LayerError, match=r"gives a tensor of shape \(\), which is no grid"):
        Explainer(Scaled(), method, layer="temperature")(images, 2)


def test_one_output_of_one_image_that_was_squeezed_to_a_number() -> None:
    images = networks.make_images(2, size=(20, 24)).float()
    classifier = Classifier.from_module(Scaled(1), classes=["yield"], task="regression")
    both, alone = Explainer(classifier)(images), Explainer(classifier)(images[:1])
    torch.testing.assert_close(alone.maps, both.maps[:1])
    assert alone.logits.shape == (1, 1)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_part_is_passed_by_and_refused_where_it_is_named() -> None:
    images = networks.make_images(1, size=(20, 24)).float()
    network = Scaled().eval()
    with torch.no_grad():
        network.body = torch.jit.trace(network.body, images)
    network.temperature = nn.Sequential(network.temperature)
    with pytest.raises(LayerError, match="a TorchScript module does not let its layers be watched"):
        Explainer(network, layer="body")(images, 2)
    network.body = nn.Sequential(network.body, nn.Conv2d(8, 8, 1))
    assert Explainer(network)(images, 2).layer == "body"  # all of it, whose last tensor it is


@pytest.mark.parametrize("method", ["gradcam", "fullgrad", "gradient", "glance", "loupe"])
@pytest.mark.parametrize(
    "targets",
    [1, [2, 0], [[2, 0], [1, 2]], torch.tensor([2, 0]), lambda logits: logits[:, 1], "label"],
    ids=["one", "one each", "several", "a tensor", "a function", "label"],
)
def test_named_targets_within_inference_mode(method: str, targets: Any) -> None:
    images, options = networks.make_images(2, size=(20, 24)).float(), {"labels": None}
    if isinstance(targets, str):
        options = {"labels": [0, 2]}
    explainer = Explainer(Frozen("as usual"), method, **({"steps": 3} if method == "loupe" else {}))
    wanted = explainer(images, targets=targets, **options)
    with torch.inference_mode():
        given = targets.clone() if isinstance(targets, Tensor) else targets
        found = explainer(images.clone(), targets=given, **options)
    torch.testing.assert_close(found.maps, wanted.maps, rtol=1e-4, atol=1e-6)
    assert wanted.maps.any()
