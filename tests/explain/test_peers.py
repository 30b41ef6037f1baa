"""The same maps as pinned peers on the same network, where the peers are right."""

import pytest
import torch
from torch import nn

from mitate import imports
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.tensors import relative_to_maximum, resize_maps, to_unit_range
from oracles import networks

NAMES = ("with relu", "pooled", "convolutions")


def maps(name: str, method: str = "gradcam", **options) -> torch.Tensor:
    network = networks.make(name)
    explainer = Explainer(Classifier.from_module(network, classes=5), method, "tapped", **options)
    return explainer(networks.make_images(2), targets=[[0, 3]] * 2).maps


@pytest.fixture(scope="module")
def torchcam():
    imports.torchvision()
    return pytest.importorskip("torchcam.methods", reason="torchcam is not installed")


@pytest.fixture(scope="module")
def pytorch_grad_cam():
    imports.torchvision()
    return pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")


def torchcams(extractor, network: nn.Module, place: int, target: int) -> torch.Tensor:
    logits = network(networks.make_images(2)[place : place + 1])
    (found,) = extractor(target, logits, normalized=False)
    extractor.remove_hooks()
    return found[0]


@pytest.mark.parametrize("name", NAMES)
def test_gradcam_is_torchcams(torchcam, name: str) -> None:
    ours = relative_to_maximum(maps(name))
    for place in range(2):
        for index, target in enumerate((0, 3)):
            network = networks.make(name)
            extractor = torchcam.GradCAM(network, "tapped")
            theirs = torchcams(extractor, network, place, target)
            torch.testing.assert_close(ours[place, index], relative_to_maximum(theirs.detach()))


@pytest.mark.parametrize("name", NAMES)
def test_gradcam_is_grad_cams(pytorch_grad_cam, name: str) -> None:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    ours = to_unit_range(resize_maps(maps(name), networks.SIZE))
    for index, target in enumerate((0, 3)):
        network = networks.make(name)
        with pytorch_grad_cam.GradCAM(network, [network.tapped]) as cam:
            theirs = cam(networks.make_images(2), [ClassifierOutputTarget(target)] * 2)
        # It scales before it enlarges, by OpenCV in float32, with 1e-7 in the divisor.
        expected = to_unit_range(torch.from_numpy(theirs).double())
        torch.testing.assert_close(ours[:, index], expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["with relu", "convolutions"])
def test_the_channel_softmax_is_what_grad_cam_calls_score_cam(pytorch_grad_cam, name: str) -> None:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = networks.make(name)
    with torch.no_grad():  # a constant channel adds a constant to their map
        network.tapped.bias[1] = 0
    images = networks.make_images(2)
    explainer = Explainer(
        Classifier.from_module(network, classes=5), "scorecam", "tapped", channel_softmax=True
    )
    ours = to_unit_range(resize_maps(explainer(images, targets=[3, 3]).maps, networks.SIZE))
    with pytorch_grad_cam.ScoreCAM(network, [network.tapped]) as cam:
        theirs = cam(images, [ClassifierOutputTarget(3)] * 2)
    expected = to_unit_range(torch.from_numpy(theirs).double())
    torch.testing.assert_close(ours[:, 0], expected, atol=2e-3, rtol=0)
