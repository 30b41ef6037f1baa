import pytest
import torch

from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.methods.concepts import factorised
from mitate.models.classifier import Classifier
from oracles import decompositions, networks

EVERY = [[0, 1, 2, 3, 4]] * 2


def explainer(network: networks.Halves, **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, "dff", network.layer, **options)


def positive(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", ["with relu", "channels last", "tokens"])
def test_the_map_is_of_the_concept_that_adds_most(name: str) -> None:
    network, images = networks.make(name), networks.make_images(2)
    made = explainer(network, concepts=3)(images, targets=EVERY).maps
    each = [explainer(network, concepts=3, concept=j)(images, top_k=1).maps for j in range(3)]
    planes = torch.cat(each, 1)
    for image, maps, of in zip(images, made, planes, strict=True):
        for target in range(5):
            chosen = decompositions.dff(network, image, target, of)
            assert torch.equal(maps[target], of[chosen])


def test_concepts_by_number_are_the_largest_first_and_of_every_class() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    chosen = explainer(network, concepts=3)(images, targets=EVERY).maps
    every = [explainer(network, concepts=3, concept=j)(images, top_k=2).maps for j in range(3)]
    sizes = [maps.flatten(2).norm(dim=2) for maps in every]
    assert (sizes[0] >= sizes[1]).all()
    assert (sizes[1] >= sizes[2]).all()
    for maps in every:
        assert torch.equal(maps[:, 0], maps[:, 1])
    for i in range(2):
        for k in range(5):
            assert any(torch.equal(chosen[i, k], maps[i, 0]) for maps in every)


def test_factors_that_there_are_are_found() -> None:
    """Parts that do not overlap are the only non-negative factors there are."""
    maps, directions = torch.zeros(2, 12, 3).double(), torch.zeros(2, 3, 7).double()
    for j, (cells, channels) in enumerate([((0, 5), (0, 3)), ((5, 9), (3, 5)), ((9, 12), (5, 7))]):
        maps[:, slice(*cells), j] = (1 + positive(2, cells[1] - cells[0])) * (3 - j)
        directions[:, j, slice(*channels)] = 1 + positive(2, channels[1] - channels[0], seed=1)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    found, of = factorised(maps @ directions, 3)
    torch.testing.assert_close(found, maps, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(of, directions, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("cells", "channels", "rank"), [(24, 6, 4), (30, 40, 5)])
def test_factors_are_nearly_as_good_as_scikit_learns(cells: int, channels: int, rank: int) -> None:
    from sklearn.decomposition import NMF

    values = (positive(3, cells, 8) - 0.3).relu() @ (positive(3, 8, channels, seed=1) - 0.3).relu()
    maps, directions = factorised(values, rank)
    assert (maps >= 0).all()
    assert (directions >= 0).all()
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(3, rank).double())
    for image, left, right in zip(values, maps, directions, strict=True):
        model = NMF(rank, init="nndsvda", max_iter=5000).fit(image.numpy())
        missed = float((image - left @ right).norm())
        assert missed < model.reconstruction_err_ + 0.005 * float(image.norm())


def test_what_is_not_there_is_zero() -> None:
    maps, directions = factorised(torch.zeros(1, 6, 4).double(), 2)
    assert not maps.any()
    assert directions.isfinite().all()
    one = positive(1, 6, 1) @ positive(1, 1, 4)
    maps, directions = factorised(one, 3)
    torch.testing.assert_close(maps @ directions, one, atol=1e-8, rtol=1e-8)
    assert factorised(one, 9)[0].shape == (1, 6, 4)


@pytest.mark.parametrize("options", [{"concepts": 0}, {"concepts": 2, "concept": 2}])
def test_options_that_mean_nothing(options: dict) -> None:
    with pytest.raises(UsageError, match="1 concept or more"):
        explainer(networks.make("with relu"), **options)(networks.make_images(1))
    with pytest.raises(UsageError, match="there is no concept 7: the grid gives 6"):
        explainer(networks.make("with relu"), concepts=8, concept=7)(networks.make_images(1))
