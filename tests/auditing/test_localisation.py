import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.auditing.localisation import area_share, energy_share
from oracles.maps import enlarged

cell = st.floats(0, 100, width=32)


def shares(maps, masks):
    return energy_share(torch.tensor(maps, dtype=torch.float64), torch.tensor(masks)).tolist()


def test_by_hand_at_the_same_resolution():
    assert shares([[[1.0, 2], [3, 4]]], [[[0.0, 0], [0, 1]]]) == pytest.approx([0.4])
    assert shares([[[1.0, 2], [3, 4]]], [[[1.0, 0], [0.5, 0]]]) == pytest.approx([0.25])


def test_by_hand_in_a_row_of_five_pixels():
    # Two cells over five pixels have their centres at 0.75 and 3.25 of the pixel centres' scale.
    row = [0.0, 0.1, 0.5, 0.9, 1.0]
    assert shares([[[0.0, 1.0]]], [[[0.0, 0, 0, 1, 1]]]) == pytest.approx([1.9 / sum(row)])


def test_the_negative_part_is_no_energy():
    assert shares([[[-9.0, 2], [0, 2]]], [[[1.0, 1], [0, 0]]]) == pytest.approx([0.5])


@pytest.mark.parametrize(
    ("maps", "mask"),
    [
        ([[0.0, 0.0]], [[1.0, 0.0]]),
        ([[-1.0, 0.0]], [[1.0, 0.0]]),
        ([[1.0, 1.0]], [[0.0, 0.0]]),
        ([[math.nan, 1.0]], [[1.0, 0.0]]),
        ([[math.inf, 1.0]], [[1.0, 0.0]]),
        ([[-math.inf, 1.0]], [[1.0, 0.0]]),
    ],
    ids=["zero map", "negative map", "empty mask", "nan", "inf", "minus inf"],
)
def test_what_cannot_be_told_is_nan(maps, mask):
    good = [[1.0, 3.0]]
    found = shares([maps, good], [mask, [[1.0, 0.0]]])
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(5))
def test_against_the_plain_sum(seed):
    rng = np.random.default_rng(seed)
    maps, masks = rng.normal(size=(3, 3, 4)), rng.random((3, 11, 9))
    expected = []
    for plane, mask in zip(maps, masks, strict=True):
        energy = np.maximum(enlarged(plane.tolist(), 11, 9), 0)
        expected.append((energy * mask).sum() / energy.sum())
    assert shares(maps, masks) == pytest.approx(expected)


@given(st.lists(cell, min_size=6, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
@settings(deadline=None)
def test_within_one_and_blind_to_positive_scale(values, marked):
    plane = torch.tensor(values, dtype=torch.float64).reshape(1, 2, 3)
    mask = torch.tensor(marked, dtype=torch.float32).repeat_interleave(4).reshape(1, 4, 6)
    share, scaled = energy_share(plane, mask), energy_share(3.5 * plane, mask)
    if plane.any() and mask.any():
        assert 0 <= share.item() <= 1
        assert scaled.item() == pytest.approx(share.item(), abs=1e-6)
        whole = energy_share(plane, torch.ones_like(mask))
        assert whole.item() == pytest.approx(1)
    else:
        assert share.isnan().all()
        assert scaled.isnan().all()


@given(st.lists(st.booleans(), min_size=6, max_size=6))
@settings(deadline=None)
def test_a_map_that_is_its_mask_lies_on_it_wholly(marked):
    mask = torch.tensor(marked, dtype=torch.float32).reshape(1, 2, 3)
    share = energy_share(mask, mask)
    assert share.item() == 1 if mask.any() else share.isnan().all()


def test_a_constant_map_scores_the_area():
    mask = torch.rand(4, 9, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(energy_share(torch.ones(4, 3, 3), mask), area_share(mask))


def test_half_precision_maps_lose_nothing():
    maps = torch.rand(2, 7, 7, generator=torch.Generator().manual_seed(0)).half()
    mask = (torch.arange(14) > 6).float().expand(2, 14, 14)
    assert torch.equal(energy_share(maps, mask), energy_share(maps.double(), mask))
