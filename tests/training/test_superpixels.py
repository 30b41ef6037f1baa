import numpy as np
import pytest

from mitate.training.superpixels import averaged


@pytest.fixture
def photo():
    """Dark, with a bright square."""
    pixels = np.random.default_rng(0).integers(0, 20, (48, 64, 3), np.uint8)
    pixels[13:35, 21:43] += 200
    return pixels


def test_a_slope_across_an_edge_becomes_a_step_at_it(photo):
    slope = np.broadcast_to(np.arange(64, dtype=np.float32), (48, 64)).copy()
    found = averaged(slope, photo)
    assert (found[16:32, 22] - found[16:32, 19]).min() > 4.5  # it was 3
    assert found.dtype == np.float32


def test_the_sum_stays_and_constant_maps_stay(photo):
    values = np.random.default_rng(1).random((48, 64)).astype(np.float32)
    found = averaged(values, photo)
    assert found.sum() == pytest.approx(values.sum(), rel=1e-4)
    assert len(np.unique(found)) < values.size / 10
    assert averaged(np.ones((48, 64), np.float32), photo) == pytest.approx(1)


def test_grey_photos_and_tiny_ones(photo):
    grey = photo[..., :1]
    values = np.arange(48 * 64, dtype=np.float32).reshape(48, 64)
    assert averaged(values, grey).shape == (48, 64)
    assert averaged(values[:4, :4], photo[:4, :4]).shape == (4, 4)
