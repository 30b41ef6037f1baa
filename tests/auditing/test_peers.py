"""The same values as pinned peers, where the peers are right."""

import warnings

import numpy as np
import pytest
import torch

from mitate.auditing.complexity import entropy, sparseness
from mitate.auditing.faithfulness import infidelity, region_sums
from mitate.auditing.localisation import rank_accuracy
from mitate.auditing.steps import Regions
from mitate.tensors import generators

NUMBER = 3


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus", reason="quantus is not installed")


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theirs(metric, maps, masks=None):
    images = np.random.default_rng(0).random((len(maps), 1, *maps.shape[1:]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = metric(
            model=None,
            x_batch=images,
            y_batch=np.zeros(len(maps), int),
            a_batch=maps[:, None].numpy(),
            s_batch=None if masks is None else masks[:, None].numpy().astype(bool),
        )
    return [float(value) for value in found]


def plain(quantus, name):
    return getattr(quantus, name)(disable_warnings=True, return_aggregate=False, normalise=False)


@pytest.mark.parametrize(("name", "own"), [("Sparseness", sparseness), ("Complexity", entropy)])
def test_complexity(quantus, name, own):
    maps = drawn(NUMBER, 6, 6)
    assert theirs(plain(quantus, name), maps) == pytest.approx(own(maps).tolist(), rel=1e-4)


def test_rank_accuracy(quantus):
    maps, masks = drawn(NUMBER, 6, 6), (drawn(NUMBER, 6, 6, seed=1) < 0.3).float()
    found = theirs(plain(quantus, "RelevanceRankAccuracy"), maps, masks)
    assert found == pytest.approx(rank_accuracy(maps, masks).tolist())


def test_infidelity_with_the_scale_fitted_as_captum_fits_it():
    metrics = pytest.importorskip("captum.metrics", reason="captum is not installed")
    pixels, regions = drawn(1, 16, 16), Regions(9, 16, 0.06, square=True)
    weights = drawn(16, 16, seed=3)
    missing = regions.drawn(generators(0, list(pixels)))[0].double()

    def likely(images):
        return torch.sigmoid((images * weights).sum((-2, -1)))

    def hide(images):
        return missing, images * (1 - missing)

    theirs = metrics.infidelity(
        likely, hide, pixels, pixels, n_perturb_samples=9, normalize=True
    )  # fmt: skip
    hidden = likely(pixels * (1 - missing))[None]
    given = generators(0, list(pixels))
    own = infidelity(pixels, given, likely(pixels), hidden, samples=9)
    assert region_sums(pixels, regions, generators(0, list(pixels))).shape == (1, 9)
    assert own.item() == pytest.approx(theirs.item(), rel=1e-4)
