import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mitate.auditing.reasons import imputation
from mitate.auditing.reasons.imputation import background
from mitate.errors import UsageError

SIDE = 9


@pytest.fixture
def silent(monkeypatch):
    monkeypatch.setattr(imputation, "NOISE", 0)


def generators(number, seed=0):
    return [torch.Generator().manual_seed(seed + i) for i in range(number)]


def middle():
    region = np.zeros((SIDE, SIDE), dtype=bool)
    region[3:6, 2:6] = True
    return region


def slowly(image, region):
    """Every hidden pixel becomes its neighbours' weighted mean, again and again."""
    filled = np.where(region, image[~region].mean(), image)
    for _ in range(3000):
        old = filled.copy()
        for y, x in np.argwhere(region):
            total = weights = 0.0
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    inside = 0 <= y + dy < image.shape[0] and 0 <= x + dx < image.shape[1]
                    if (dy or dx) and inside:
                        weight = 1 / 12 if dy and dx else 1 / 6
                        total += weight * old[y + dy, x + dx]
                        weights += weight
            filled[y, x] = total / weights
        if abs(filled - old).max() < 1e-13:
            break
    return filled


@pytest.mark.parametrize("place", [np.s_[3:6, 2:6], np.s_[5:, 6:], np.s_[:, :2], np.s_[4, 4]])
def test_each_hidden_pixel_is_the_weighted_mean_of_its_neighbours(place, silent):
    region = np.zeros((SIDE, SIDE), dtype=bool)
    region[place] = True
    images = torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64)
    filled = background(images, region, generators(2))
    for image, expected in zip(filled.flatten(0, 1), images.flatten(0, 1), strict=True):
        assert image.numpy() == pytest.approx(slowly(expected.numpy(), region), abs=1e-6)


def test_a_plane_is_restored(silent):
    ramp = torch.arange(SIDE, dtype=torch.float64)
    image = (2 * ramp[:, None] - ramp[None])[None, None]
    assert torch.allclose(background(image, middle(), generators(1)), image)


def test_what_is_known_stays_and_what_was_hidden_does_not_matter():
    images = torch.rand(2, 3, SIDE, SIDE)
    other = images.clone()
    region = torch.from_numpy(middle())
    other[..., region] = torch.rand(2, 3, int(region.sum()))
    first, second = (background(given, middle(), generators(2)) for given in (images, other))
    assert torch.equal(first[..., ~region], images[..., ~region])
    assert torch.allclose(first, second, atol=1e-5)
    assert not torch.equal(first[..., region], images[..., region])


def test_the_noise_is_a_hundredth_of_the_range_and_follows_the_generator():
    image = torch.zeros(1, 1, 60, 60)
    image[0, 0, 0, 0] = 10
    region = np.zeros((60, 60), dtype=bool)
    region[10:50, 10:50] = True
    first, again, other = (background(image, region, generators(1, seed)) for seed in (0, 0, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first[..., 10:50, 10:50].std().item() == pytest.approx(0.1, rel=0.1)


def test_images_are_filled_alike_in_any_batch():
    images = torch.rand(3, 3, SIDE, SIDE)
    together = background(images, middle(), generators(3))
    alone = [background(images[i : i + 1], middle(), generators(3)[i : i + 1]) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone))


@settings(deadline=None, max_examples=40)
@given(arrays(bool, (6, 6)))
def test_what_is_filled_lies_between_what_is_known(region):
    if region.all() or not region.any():
        with pytest.raises(UsageError, match="leaves one"):
            background(torch.zeros(1, 1, 6, 6), region, generators(1))
        return
    image = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    filled = background(image, region, generators(1))
    room = 0.05  # five times the noise
    known = image[..., torch.from_numpy(~region)]
    assert filled.min() >= known.min() - room
    assert filled.max() <= known.max() + room


@given(st.floats(0.1, 5), st.floats(-3, 3))
@settings(deadline=None, max_examples=20)
def test_a_normalisation_of_the_pixels_does_not_matter(std, mean):
    image = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64)
    plain = background(image, middle(), generators(1))
    other = background((image - mean) / std, middle(), generators(1))
    assert torch.allclose(other, (plain - mean) / std)
