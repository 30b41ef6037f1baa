import pytest
import torch

from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from oracles import maps, networks


def explainer(network: networks.Halves, **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, "scorecam", network.layer, **options)


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
