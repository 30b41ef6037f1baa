import pytest
import torch
from torch import nn

from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from oracles import maps, networks


def explainer(method: str, name: str = "with relu", **options) -> Explainer:
    network = networks.make(name)
    return Explainer(
        Classifier.from_module(network, classes=networks.CLASSES), method, network.layer, **options
    )


@pytest.mark.parametrize("sigma", [0.25, 0.1, 1])
def test_centre_is_the_oracles(sigma: float) -> None:
    made = explainer("centre", sigma=sigma)(networks.make_images()).maps
    expected = torch.tensor(maps.centre(4, 6, sigma), dtype=torch.float64)
    torch.testing.assert_close(made, expected.expand(3, 3, 4, 6))


@pytest.mark.parametrize("size", [(16, 24), (18, 30), (13, 21)])
def test_edges_are_the_oracles(size: tuple[int, int]) -> None:
    images = networks.make_images(2, size=size)
    made = explainer("edges")(images).maps
    for image, of in zip(images, made, strict=True):
        expected = torch.tensor(maps.edges(image, *of.shape[-2:]), dtype=torch.float64)
        torch.testing.assert_close(of, expected.expand_as(of))


def test_a_flat_image_has_no_edges() -> None:
    explanation = explainer("edges")(torch.full((1, 3, 16, 24), 0.25, dtype=torch.float64))
    assert {flag.kind for flag in explanation.flags} == {"zero"}


def test_random_is_uniform_and_independent_between_images_and_classes() -> None:
    images = networks.make_images(40)
    made = explainer("random")(images, top_k=5).maps.flatten(2)
    assert 0 <= made.min() < 0.01
    assert 0.99 < made.max() <= 1
    assert abs(made.mean() - 0.5) < 0.02
    correlation = torch.corrcoef(made.reshape(200, -1)).fill_diagonal_(0)
    assert correlation.abs().max() < 0.95
    assert abs(correlation.mean()) < 0.02


def test_random_depends_on_the_seed() -> None:
    images = networks.make_images(1)
    first, again, other = (explainer("random", seed=seed)(images).maps for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("sigma", [0, -1])
def test_centre_needs_a_positive_sigma(sigma: float) -> None:
    with pytest.raises(UsageError, match="positive fraction"):
        explainer("centre", sigma=sigma)(networks.make_images(1))


def test_a_blob_on_two_cells_has_a_middle() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 16, 1), nn.ReLU(), Mean(), nn.Linear(4, 2))
    explanation = Explainer(network, "centre")(torch.zeros(1, 3, 32, 32))
    assert not explanation.flags
    (blob,) = explanation.maps[0, :1]
    assert blob.shape == (3, 3)
    assert blob.argmax() == 4
    assert (blob == blob.T).all()


class Mean(nn.Module):
    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        return cells.mean((2, 3))
