import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.auditing.localisation import (
    area_share,
    average_precision,
    energy_share,
    iou,
    pointing,
    rank_accuracy,
    region,
    widened,
)
from oracles import metrics
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


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_region_is_what_is_half_covered_or_most():
    shares = torch.tensor([[[0.5, 0.4, 1.0]], [[0.2, 0.1, 0.2]], [[0.0, 0.0, 0.0]]])
    expected = [[[True, False, True]], [[True, False, True]], [[False] * 3]]
    assert region(shares).tolist() == expected


def test_widened_by_a_disc():
    point = torch.zeros(1, 5, 5, dtype=torch.bool)
    point[0, 2, 2] = True
    assert widened(point, 1.0).sum() == 5
    assert widened(point, 1.5).sum() == 9
    assert torch.equal(widened(point, 0.9), point)


def test_pointing_by_hand():
    mask = torch.tensor([[[0.0, 1, 0, 0, 0]]])
    for row, tolerance, expected in (
        ([1.0, 2, 0, 0, 0], 0.0, 1),
        ([3.0, 2, 0, 0, 0], 0.0, 0),
        ([3.0, 2, 0, 0, 0], 0.2, 1),
        ([0.0, 0, 0, 3, 0], 0.2, 0),
        ([3.0, 3, 0, 0, 3], 0.0, 1 / 3),
        ([1.0, 1, 1, 1, 1], 1.0, 0),
        ([0.0, 0, 0, 0, 0], 1.0, 0),
    ):
        found = pointing(torch.tensor([[row]]), mask, tolerance=tolerance).item()
        assert found == pytest.approx(expected)


RANKED = [pointing, rank_accuracy, iou, average_precision]


@pytest.mark.parametrize("measure", RANKED)
def test_no_region_is_neither_a_hit_nor_a_miss(measure):
    found = measure(drawn(2, 3, 3), torch.stack([torch.zeros(3, 3), torch.ones(3, 3)]))
    assert found.isnan().tolist() == [True, False]


def test_by_hand_in_two_by_two():
    maps = torch.tensor([[[4.0, 3], [2, 1]]])
    mask = torch.tensor([[[1.0, 0], [1, 0]]])
    assert rank_accuracy(maps, mask).item() == pytest.approx(0.5)
    assert iou(maps, mask).item() == pytest.approx(2 / 3)
    assert average_precision(maps, mask).item() == pytest.approx((1 + 2 / 3) / 2)


def test_a_constant_map_scores_the_area_of_the_region():
    mask = torch.tensor([[[1.0, 0, 0, 0, 1]]])
    for measure in (rank_accuracy, iou, average_precision):
        assert measure(torch.full((1, 1, 5), 0.3), mask).item() == pytest.approx(0.4)


@given(
    st.lists(st.integers(0, 4), min_size=12, max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.floats(0.1, 100),
)
@settings(deadline=None)
def test_against_loops_and_scikit_learn(values, marked, scale):
    if not any(marked):
        return
    plane = torch.tensor(values, dtype=torch.float64).reshape(1, 3, 4)
    hits = torch.tensor(marked).reshape(1, 3, 4)
    mask = hits.float()
    best = metrics.best_iou(plane[0].tolist(), hits[0].tolist())
    assert iou(plane, mask).item() == pytest.approx(best)
    from sklearn.metrics import average_precision_score

    precise = average_precision_score(marked, values)
    assert average_precision(plane, mask).item() == pytest.approx(precise)
    if len(set(values)) == 12:
        accuracy = metrics.rank_accuracy(plane[0].tolist(), hits[0].tolist())
        assert rank_accuracy(plane, mask).item() == pytest.approx(accuracy)
    for measure in RANKED:
        assert measure(scale * plane, mask).item() == pytest.approx(measure(plane, mask).item())


def test_rank_accuracy_against_a_plain_sort():
    maps, masks = drawn(5, 6, 7), (drawn(5, 6, 7, seed=1) < 0.3).float()
    expected = [
        metrics.rank_accuracy(plane.tolist(), mask.bool().tolist())
        for plane, mask in zip(maps, masks, strict=True)
    ]
    assert rank_accuracy(maps, masks).tolist() == pytest.approx(expected)


def test_of_equal_pixels_at_the_limit_the_mean_over_their_orders():
    maps = torch.tensor([[[5.0, 1, 1, 1, 0]]])
    mask = torch.tensor([[[0.0, 1, 0, 0, 1]]])
    assert rank_accuracy(maps, mask).item() == pytest.approx(1 / 3 / 2)


@given(st.lists(st.booleans(), min_size=6, max_size=6))
@settings(deadline=None)
def test_a_map_that_is_its_mask_is_right_in_every_way(marked):
    mask = torch.tensor(marked, dtype=torch.float32).reshape(1, 2, 3)
    if not mask.any():
        return
    for measure in (rank_accuracy, iou, average_precision):
        assert measure(mask, mask).item() == 1
    assert pointing(mask, mask, tolerance=0.0).item() == float(not mask.all())
