import numpy as np
import pytest

from mitate.auditing.reasons.grouping import group, groups_by_eigengap


def blobs(*sizes, distance=12.0, seed=0):
    """Points of ten dimensions in clouds that stand in a row."""
    rng = np.random.default_rng(seed)
    row = distance * np.eye(10)[0]
    return np.concatenate([rng.normal(0, 1, (n, 10)) + i * row for i, n in enumerate(sizes)])


@pytest.mark.parametrize("sizes", [(30,), (100,), (30, 20), (25, 20, 15), (24, 8)])
def test_as_many_groups_as_there_are_clouds_the_largest_first(sizes):
    found = group(blobs(*sizes))
    assert found.tolist() == [number for number, size in enumerate(sizes) for _ in range(size)]


def test_the_largest_group_is_number_0_wherever_it_stands():
    found = group(blobs(12, 30))
    assert found.tolist() == [1] * 12 + [0] * 30


def test_equal_seeds_give_equal_groups_and_scale_does_not_matter():
    features = blobs(20, 15, distance=6)
    assert (group(features, 4) == group(features, 4)).all()
    assert (group(features, 4) == group(1000 * features, 4)).all()


@pytest.mark.parametrize("number", [0, 1, 2, 7])
def test_few_images_are_one_group(number):
    assert group(blobs(number)).tolist() == [0] * number


def test_images_without_a_difference_are_one_group():
    assert group(np.ones((20, 3))).tolist() == [0] * 20


def test_copies_of_two_images_are_two_groups():
    features = np.repeat([[0.0, 1.0], [5.0, 1.0]], [12, 10], axis=0)
    assert group(features).tolist() == [0] * 12 + [1] * 10


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ([0, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1], 1),
        ([0, 0.01, 0.6, 0.7, 0.8, 0.9, 1, 1], 2),
        # the gap after the fourth is the widest, and eight images are two groups at most
        ([0, 0.01, 0.1, 0.1, 0.9, 0.9, 1, 1], 2),
        ([0, 0.01, 0.02, 0.03, 0.9, 0.9, 1, 1] + [1] * 8, 4),
        # no group hangs loosely on the others, wherever the widest gap is
        ([0, 0.3, 0.35, 0.9, 0.9, 0.9, 1, 1] + [1] * 8, 1),
        ([0], 1),
    ],
)
def test_the_eigengap_tells_the_number(values, number):
    assert groups_by_eigengap(np.asarray(values, dtype=float)) == number
