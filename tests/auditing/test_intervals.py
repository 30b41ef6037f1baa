import math

import numpy as np
import pytest

from mitate.auditing.intervals import (
    known_interval,
    mean_interval,
    paired_interval,
    recall_interval,
    sure_interval,
)


def test_the_mean_lies_in_its_interval():
    values = np.random.default_rng(0).random(50)
    found = mean_interval(values)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(values.mean())
    assert (found.images, found.missing) == (50, 0)


def test_missing_values_are_counted_and_left_out():
    found = mean_interval(np.array([1.0, math.nan, 3.0, math.nan]))
    assert (found.mean, found.images, found.missing) == (2, 2, 2)


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_no_value_has_no_mean(values):
    found = mean_interval(np.array(values))
    assert math.isnan(found.mean)
    assert (found.images, found.missing) == (0, len(values))


def test_the_same_seed_gives_the_same_interval_and_the_global_state_is_left():
    values = np.random.default_rng(1).random(20)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, seed=1)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_the_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    found = [mean_interval(rng.normal(size=30), seed) for seed in range(150)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert 0.88 <= covered <= 0.99


def test_a_paired_interval_sees_what_two_apart_do_not():
    rng = np.random.default_rng(3)
    base = rng.random(40)
    better = base + 0.02 + 0.001 * rng.random(40)
    assert mean_interval(better).low < mean_interval(base).high
    assert paired_interval(better, base).low > 0


def test_pairs_with_a_missing_half_are_left_out():
    found = paired_interval(np.array([1.0, math.nan, 3]), np.array([0.0, 0, math.nan]))
    assert (found.mean, found.images, found.missing) == (1, 1, 2)


@pytest.mark.parametrize(
    ("one", "two", "low", "high"), [(9, 3, 0.1705, 0.8090), (10, 0, 0.6075, 1.0)]
)
def test_the_difference_of_rates_as_newcombe_has_it(one, two, low, high):
    """His table II, method 10."""
    rates = [(np.arange(10) < count).astype(float) for count in (one, two)]
    found = sure_interval(*rates, 1)
    assert found.mean == pytest.approx((one - two) / 10)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_more_comparisons_widen_it_and_six_images_of_ten_classes_are_too_few():
    ones, none = np.ones(6), np.zeros(6)
    lows = [sure_interval(ones, none, comparisons).low for comparisons in (1, 6, 60)]
    assert lows == sorted(lows, reverse=True)
    assert lows[0] > 0.4
    assert lows[2] < 0.1


def test_of_rates_what_is_missing_is_counted():
    found = sure_interval(np.array([1.0, np.nan, 1.0]), np.array([0.0, 0.0, np.nan]), 2)
    assert (found.images, found.missing) == (1, 2)
    assert math.isnan(sure_interval(np.array([np.nan]), np.zeros(1), 1).mean)


def test_where_nothing_is_known_there_is_no_interval():
    assert known_interval(np.array([math.nan, math.nan])) is None
    assert known_interval(np.array([])) is None
    assert known_interval(np.array([0.5, math.nan])) == mean_interval(np.array([0.5, math.nan]))


@pytest.mark.parametrize(
    ("classes", "photos", "recall"), [(2, 30, 0.9), (10, 6, 0.9), (20, 3, 0.7), (50, 1, 0.9)]
)
def test_the_true_recall_lies_in_the_interval(classes, photos, recall):
    rng = np.random.default_rng(0)
    counts = np.full(classes, photos)
    found = [recall_interval(rng.binomial(counts, recall), counts) for _ in range(150)]
    assert np.mean([one.low <= recall <= one.high for one in found]) >= 0.92
