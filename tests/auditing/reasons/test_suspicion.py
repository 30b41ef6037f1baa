from dataclasses import replace

import numpy as np
import pytest

from mitate.auditing.intervals import Interval
from mitate.auditing.reasons.groups import Group
from mitate.auditing.reasons.patterns import Pattern
from mitate.auditing.reasons.places import Place
from mitate.auditing.reasons.suspicion import judged, needs_pattern, ranked


def interval(mean, half=0.05, images=20):
    return Interval(mean, mean - half, mean + half, images)


def group(**changes):
    """A group that all speaks against, without masks."""
    region = np.zeros((10, 10), dtype=bool)
    region[7:, 7:] = True
    made = Group(
        class_name="blast",
        number=0,
        members=tuple(range(20)),
        names=tuple(f"{n}.jpg" for n in range(20)),
        share=0.31,
        heat=np.zeros((2, 2), dtype=np.float32),
        region=region,
        place=Place("the lower right corner", "corner"),
        peaks=0.9,
        border=0.8,
        outside=None,
        marked=None,
        errors=0.1,
        error_lift=0.05,
        flips=interval(0.84),
        elsewhere=interval(0.06),
        excess=interval(0.78),
        fall=0.6,
        medoid=3,
        medoid_name="3.jpg",
        medoid_heat=np.zeros((2, 2), dtype=np.float32),
        pattern=Pattern(0.4, 0.1),
    )
    return replace(made, **changes)


def test_what_all_speaks_against_is_found_and_said():
    found = judged(group())
    assert found.suspicion == "found"
    assert found.words == (
        "31 % of 'blast' is decided by the lower right corner; hiding it flips 84 % of them "
        "(as much elsewhere: 6 %)"
    )
    assert "the same pattern" in found.why


def test_with_masks_no_pattern_and_no_edge_is_needed():
    inside = group(marked=interval(-0.1), pattern=None, place=Place("the centre", "inside"))
    assert judged(inside).suspicion == "found"
    assert not needs_pattern(inside)
    assert "the masks mark less of the centre" in judged(inside).why


@pytest.mark.parametrize("mean", [0.0, 0.04])
def test_masks_that_mark_as_much_there_as_elsewhere_leave_it_to_the_pattern(mean):
    """As of lesions all over a leaf: the date among them is still at the same pixels each time."""
    among = group(marked=interval(mean))
    assert judged(among).suspicion == "found"
    assert "the same pattern" in judged(among).why
    assert needs_pattern(replace(among, pattern=None))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"members": (0, 1, 2, 3, 4)}, "5 images, and it takes 6"),
        ({"members": (0,)}, "1 image, and it takes 6"),
        ({"place": None, "region": np.zeros((10, 10), dtype=bool)}, "no part of the maps"),
        ({"region": np.ones((10, 10), dtype=bool)}, "covers 100 % of the image"),
        ({"peaks": 0.4}, "only 40 % of the maps"),
        ({"marked": interval(0.1)}, "the masks mark more"),
        (
            {"marked": interval(0.0), "pattern": None},
            "differs from image to image, and the masks mark as much",
        ),
        (
            {"marked": interval(0.0), "place": Place("the centre", "inside")},
            "the masks do not mark less of it",
        ),
        ({"place": Place("the centre", "inside")}, "masks would tell"),
        ({"place": Place("the left part", "inside")}, "masks would tell"),
        ({"excess": None}, "could not be hidden"),
        ({"excess": interval(float("nan"), images=0)}, "could not be hidden"),
        ({"excess": interval(0.12)}, "flips hardly more"),
        ({"excess": interval(-0.5)}, "flips hardly more"),
        ({"pattern": None}, "differs from image to image"),
        ({"pattern": Pattern(0.4, 0.3)}, "differs from image to image"),
        ({"pattern": Pattern(0.4, float("nan"))}, "differs from image to image"),
    ],
)
def test_one_thing_missing_is_enough_to_be_quiet(changes, why):
    quiet = judged(group(**changes))
    assert quiet.suspicion == "quiet"
    assert why in quiet.why
    assert "is decided by" not in quiet.words


def test_a_pattern_is_looked_for_only_where_all_else_speaks_against():
    assert needs_pattern(group(pattern=None))
    assert not needs_pattern(group(pattern=None, peaks=0.1))
    assert not needs_pattern(group(pattern=None, marked=interval(-0.1)))


def test_words_leave_out_what_is_not_known():
    assert group(flips=None).words == "31 % of 'blast' has its heat in the lower right corner"
    alone = group(elsewhere=interval(float("nan"), images=0))
    assert alone.words.endswith("hiding it flips 84 % of them")


def test_found_groups_come_first_and_then_the_ranks_decide():
    found = judged(group(share=0.1, border=0.1, error_lift=-0.1))
    large = judged(group(peaks=0, share=0.9))
    small = judged(group(peaks=0, share=0.2, error_lift=None))
    assert ranked([small, large, found]) == (found, large, small)
    outside = judged(group(peaks=0, share=0.9, outside=interval(0.9)))
    assert ranked([large, outside]) == (outside, large)
    assert ranked([]) == ()


def test_groups_of_equal_rank_keep_their_order():
    first, second = judged(group()), judged(group())
    assert ranked([first, second]) == (first, second)
    assert ranked([second, first]) == (second, first)
