from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.data.stratifying import Draw


def draw(units: list[dict[str, int]], fraction: float = 0.2, seed: int = 0) -> set[int]:
    counters = [Counter(unit) for unit in units]
    return Draw(counters).draw(fraction, np.random.default_rng(seed))


def taken(units: list[dict[str, int]], drawn: set[int]) -> Counter[str]:
    total: Counter[str] = Counter()
    for number in drawn:
        total.update(units[number])
    return total


@pytest.mark.parametrize(
    ("size", "fraction", "valid"),
    [(1, 0.2, 0), (2, 0.2, 1), (3, 0.9, 2), (10, 0.2, 2), (1000, 0.2, 200), (2, 0.99, 1)],
)
def test_single_images_are_drawn_exactly(size: int, fraction: float, valid: int) -> None:
    assert len(draw([{"a": 1}] * size, fraction)) == valid


def test_large_groups_are_drawn_when_nothing_else_is_there() -> None:
    assert len(draw([{"a": 9}, {"a": 9}])) == 1
    assert draw([{"a": 10}, {"a": 2}]) == {1}
    assert draw([{"a": 12}]) == set()


def test_group_with_the_only_image_of_a_class_stays() -> None:
    units = [{"a": 1, "rare": 1}, {"a": 1}]
    assert draw(units) == {1}


unit = st.dictionaries(st.sampled_from("abc"), st.integers(1, 5), min_size=1)


@settings(deadline=None)
@given(st.lists(unit, min_size=1, max_size=20), st.floats(0.05, 0.95), st.integers(0, 9))
def test_every_class_keeps_an_image_in_train(units, fraction: float, seed: int) -> None:
    drawn = draw(units, fraction, seed)
    totals, valid = taken(units, set(range(len(units)))), taken(units, drawn)
    assert all(valid[name] < totals[name] for name in totals)
    assert drawn == draw(units, fraction, seed)


def test_seeds_differ() -> None:
    units = [{"a": 1}] * 50
    assert draw(units, seed=0) != draw(units, seed=1)
