import math

import numpy as np
import pytest

from mitate.auditing.values import Part, Values, best_first, mean_of, paired


def part(places, contenders, value, curve=None):
    images = len(places)
    return Part(
        places=tuple(places),
        contenders=tuple(contenders),
        metrics=("energy",),
        values=np.full((len(contenders), 1, images), value),
        empty=np.zeros((len(contenders), images), dtype=bool),
        curves={"deletion": np.full((len(contenders), images, 3), curve or value)},
        fractions={"deletion": np.array([0, 0.5, 1])},
        forwards=1.0,
        seconds=1.0,
    )


@pytest.fixture
def values():
    found = Values()
    found.add(part([0, 1], ["a", "b", "centre"], 0.5))
    found.add(part([2], ["a", "centre"], 0.2))
    return found


def test_a_contender_that_was_dropped_has_fewer_images(values):
    assert values.images == 3
    assert [values.seen(name) for name in ("a", "b", "centre", "c")] == [3, 2, 3, 0]
    assert values.of("a", "energy").tolist() == [0.5, 0.5, 0.2]
    assert values.of("b", "energy").tolist() == [0.5, 0.5]
    assert values.of("b", "deletion").tolist() == []


def test_two_are_compared_on_what_both_saw(values):
    first, second = paired(values.of("b", "energy"), values.of("centre", "energy"))
    assert first.tolist() == [0.5, 0.5]
    assert second.tolist() == [0.5, 0.5]


def test_a_mean_curve_leaves_out_what_is_not_finite(values):
    values.add(part([3], ["a"], 0.8, curve=math.nan))
    np.testing.assert_allclose(values.curve("a", "deletion"), [0.4, 0.4, 0.4])
    assert values.curve("a", "insertion").size == 0


def test_means_of_nothing():
    assert math.isnan(mean_of(np.array([])))
    assert math.isnan(mean_of(np.array([math.nan])))
    assert mean_of(np.array([1, math.nan, 3])) == 2


@pytest.mark.parametrize(("higher", "order"), [(True, "bacn"), (False, "acbn")])
def test_the_best_first_and_ties_as_they_stand(higher, order):
    means = {"n": math.nan, "a": 1.0, "b": 2.0, "c": 1.0}
    assert "".join(best_first(means, higher)) == order
