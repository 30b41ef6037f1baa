import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitate.auditing.reasons.regions import elsewhere, hot_region, peaks_in


def test_the_region_is_around_the_peak_and_in_one_piece():
    heat = np.zeros((8, 8), dtype=np.float32)
    heat[6:, 6:] = 1
    heat[0, 0] = 0.9
    region = hot_region(heat, (64, 64))
    assert region[56:, 56:].all()
    assert not region[:32].any()
    assert region.mean() == pytest.approx(1 / 16, rel=0.1)


def test_it_is_hotter_than_half_way_from_the_mean_to_the_peak():
    heat = np.array([[0.0, 0.0, 3.0, 8.0]], dtype=np.float32).repeat(4, axis=0)
    assert hot_region(heat, (4, 4)).tolist() == [[False, False, False, True]] * 4
    heat[:, 2] = 6
    assert hot_region(heat, (4, 4)).tolist() == [[False, False, True, True]] * 4


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_map_has_no_region(value):
    assert not hot_region(np.full((4, 4), value, dtype=np.float32), (8, 8)).any()


@given(st.floats(0.01, 100))
def test_scale_does_not_matter(scale):
    heat = np.random.default_rng(0).random((5, 5)).astype(np.float32)
    assert (hot_region(heat, (20, 20)) == hot_region(heat * np.float32(scale), (20, 20))).all()


def spot(side=32):
    region = np.zeros((side, side), dtype=bool)
    region[24:, 26:] = True
    region[24, 26] = False
    return region


def test_other_places_have_the_same_shape_and_hardly_overlap():
    places = elsewhere(spot(), 8, np.random.default_rng(0))
    assert len(places) == 8
    shape = spot()[24:, 26:]
    for place in places:
        rows, columns = np.flatnonzero(place.any(1)), np.flatnonzero(place.any(0))
        assert (place[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == shape).all()
        assert (place & spot()).sum() <= 0.25 * spot().sum() + 1
    assert len({place.tobytes() for place in places}) == 8


def test_the_generator_tells_the_places():
    first, again, other = (elsewhere(spot(), 4, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_a_region_without_room_elsewhere_has_no_other_place():
    region = np.zeros((10, 10), dtype=bool)
    region[1:9, 1:9] = True
    assert elsewhere(region, 8, np.random.default_rng(0)) == []


def test_where_there_is_little_room_there_are_fewer_places():
    region = np.zeros((4, 1), dtype=bool)
    region[0] = True
    assert len(elsewhere(region, 8, np.random.default_rng(0))) == 3


def test_peaks_in_the_region():
    maps = np.zeros((4, 4, 4), dtype=np.float32)
    maps[0, 3, 3] = maps[1, 3, 3] = maps[2, 0, 0] = maps[3, 3, 2] = 1
    region = np.zeros((16, 16), dtype=bool)
    region[12:, 12:] = True
    assert peaks_in(maps, region) == 0.5
