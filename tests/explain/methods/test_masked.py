from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from mitate.errors import MitateWarning
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.tensors import generators
from oracles import maps, masked, networks


def explainer(network: networks.Halves, method: str = "scorecam", **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, method, network.layer, **options)


@pytest.mark.parametrize("name", networks.MAKERS)
@pytest.mark.parametrize(
    ("method", "options"),
    [("ablationcam", {}), ("reciprocam", {}), ("reciprocam", {"gaussian": True}), ("iscam", {})],
)
def test_is_the_oracles(method: str, options: dict, name: str) -> None:
    network, images = networks.make(name), networks.make_images(2)
    made = explainer(network, method, batch_size=3, **options)(images, targets=[[0, 3]] * 2).maps
    for i, image in enumerate(images):
        for j, target in enumerate((0, 3)):
            expected = getattr(masked, method)(network, image, target, **options)
            torch.testing.assert_close(
                made[i, j], torch.tensor(expected, dtype=torch.float64), atol=1e-10, rtol=1e-8
            )
    assert made.any()


def test_sscam_is_the_oracles() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    made = explainer(network, "sscam", spread=0.3, seed=4)(images, targets=[[0, 3]] * 2).maps
    for i, (image, generator) in enumerate(zip(images, generators(4, list(images)), strict=True)):
        noise = 0.3 * torch.stack(
            [
                torch.randn(1, *networks.SIZE, generator=generator, dtype=torch.float64)
                for _ in range(8)
            ]
        )
        for j, target in enumerate((0, 3)):
            expected = masked.sscam(network, image, target, noise=noise[:, None])
            torch.testing.assert_close(made[i, j], torch.tensor(expected, dtype=torch.float64))


def test_ablationcams_closed_form() -> None:
    network, images = networks.make("pooled"), networks.make_images(2)
    made = explainer(network, "ablationcam")(images, targets=[[1, 4]] * 2).maps
    for i, image in enumerate(images):
        for j, target in enumerate((1, 4)):
            expected = masked.ablationcam_pooled(network, image, target)
            torch.testing.assert_close(made[i, j], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("channel_softmax", [False, True])
@pytest.mark.parametrize("name", networks.MAKERS)
def test_scorecam_is_the_oracles(name: str, channel_softmax: bool) -> None:
    network, images = networks.make(name), networks.make_images(2)
    options = {"channel_softmax": channel_softmax}
    explanation = explainer(network, batch_size=4, **options)(images, targets=[[0, 3]] * 2)
    for i, image in enumerate(images):
        for j, target in enumerate((0, 3)):
            expected = maps.scorecam(network, image, target, channel_softmax=channel_softmax)
            torch.testing.assert_close(
                explanation.maps[i, j],
                torch.tensor(expected, dtype=torch.float64),
                atol=1e-10,
                rtol=1e-8,
            )
    assert explanation.maps.any()


@pytest.mark.parametrize("channel_softmax", [False, True])
def test_a_layer_of_constant_channels_is_flagged(channel_softmax: bool) -> None:
    network = networks.make("pooled")
    torch.nn.init.zeros_(network.tapped.weight)
    explanation = explainer(network, channel_softmax=channel_softmax)(networks.make_images(1))
    assert not explanation.maps.any()
    assert {flag.kind for flag in explanation.flags} == {"zero"}
    assert explanation.cost == 1


def test_scores_that_are_not_finite_are_flagged_and_not_hidden() -> None:
    network = networks.make("pooled")
    with torch.no_grad():
        network.head.bias[2] = float("nan")
    for softmax in (False, True):
        explanation = explainer(network, channel_softmax=softmax)(
            networks.make_images(1), targets=[2]
        )
        assert [flag.kind for flag in explanation.flags] == ["not finite"]


class Beside(nn.Module):
    """What lies beside the tapped layer has its images where ``laid`` says."""

    def __init__(self, laid: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.laid = laid
        self.patches, self.tapped = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 8, 1)
        self.other, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        grid = self.patches(images)
        rows = self.other(grid).flatten(2).mT  # b, n, c
        given = self.tapped(grid).flatten(2).mT
        number, cells, _ = rows.shape
        match self.laid:
            case "heads in the batch":
                parts = rows.reshape(number, cells, 2, 4).transpose(1, 2).flatten(0, 1).tanh()
                heads = given.reshape(number, cells, 2, 4).transpose(1, 2).flatten(0, 1)
                both = (parts * heads).unflatten(0, (number, 2)).transpose(1, 2).flatten(2)
            case "heads before images":
                parts = rows.reshape(number, cells, 2, 4).permute(2, 0, 1, 3).flatten(0, 1).tanh()
                heads = given.reshape(number, cells, 2, 4).permute(2, 0, 1, 3).flatten(0, 1)
                both = (parts * heads).unflatten(0, (2, number)).permute(1, 2, 0, 3).flatten(2)
            case "tokens first":
                both = (rows.transpose(0, 1).contiguous().tanh() * given.transpose(0, 1)).mT
                both = both.permute(2, 0, 1)
        return self.head(both.tanh().square().mean(1))


@pytest.mark.parametrize("method", ["ablationcam", "reciprocam"])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    ("laid", "followed"),
    [("heads in the batch", True), ("heads before images", False), ("tokens first", False)],
)
def test_what_lies_beside_the_layer_is_of_the_same_image(
    laid: str, followed: bool, number: int, method: str
) -> None:
    """Or whole forwards are run, and it is said so."""
    network, images = Beside(laid).double().eval(), networks.make_images(number)
    targets = [[0, 3]] * number
    explain = Explainer(network, method, "tapped", batch_size=8)
    hidden = not followed and number > 1
    said = pytest.warns(MitateWarning, match="whole forwards") if hidden else nullcontext()
    with said:
        found = explain(images, targets=targets).maps
    for image, one in zip(images, found, strict=True):
        wanted = Explainer(network, method, "tapped")(image[None], targets=targets[:1]).maps[0]
        torch.testing.assert_close(one, wanted)
        assert one.any()
