import pytest
import torch

from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from oracles import maps, networks


def explainer(network: networks.Halves, **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, "gradcam", network.layer, **options)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", networks.MAKERS)
def test_gradcam_is_the_oracles(name: str, seed: int) -> None:
    network, images = networks.make(name, seed), networks.make_images(seed=seed)
    explanation = explainer(network)(images, targets=[[0, 1, 2, 3, 4]] * 3)
    for i, image in enumerate(images):
        for target in range(networks.CLASSES):
            expected = torch.tensor(maps.gradcam(network, image, target), dtype=torch.float64)
            torch.testing.assert_close(explanation.maps[i, target], expected, rtol=1e-9, atol=1e-12)
    assert explanation.maps.any()


def test_closed_form_after_global_average_pooling() -> None:
    network, images = networks.make("pooled"), networks.make_images()
    activations = network.before(images)
    cam = torch.einsum("kc,bchw->bkhw", network.head.weight, activations)
    explanation = explainer(network)(images, targets=[[0, 1, 2, 3, 4]] * 3)
    cells = activations.shape[-2] * activations.shape[-1]
    torch.testing.assert_close(explanation.maps, (cam / cells).relu().detach())
