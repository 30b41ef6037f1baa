import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitate.auditing.gate import Requirement, held, improved, requirement_of
from mitate.auditing.intervals import Interval
from mitate.errors import UsageError

MEASURED = ("energy", "deletion", "early_deletion")


class Told:
    """An audit of which only these are known."""

    def __init__(self, values=(), beaten=()):
        self.values, self.known = dict(values), dict(beaten)

    def value(self, metric):
        return self.values.get(metric, math.nan)

    def beaten(self, metric):
        return self.known.get(metric, (None, ""))


@pytest.mark.parametrize(
    ("words", "metric", "relation", "bound"),
    [
        ("energy>=0.5", "energy", ">=", 0.5),
        (" energy  > .5 ", "energy", ">", 0.5),
        ("early deletion<=5e-1", "early_deletion", "<=", 0.5),
        ("accuracy>=0.9", "accuracy", ">=", 0.9),
        ("deletion<0.3", "deletion", "<", 0.3),
    ],
)
def test_numbers(words, metric, relation, bound):
    assert requirement_of(words, MEASURED) == Requirement(words, metric, relation, bound)


def test_words():
    found = requirement_of("early_deletion better than control", MEASURED)
    assert (found.metric, found.relation) == ("early_deletion", "better than control")
    two = requirement_of("accuracy not worse", MEASURED, two=True)
    assert (two.metric, two.relation) == ("accuracy", "not worse")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "energy",
        "energy=0.5",
        "energy>=",
        "energy>=.",
        "energy>=1e",
        "energie>=0.5",
        "insertion>=0.5",  # known and not measured
        "accuracy better than control",
        "energy better",  # of two classifiers
        "energy better than chance",
    ],
)
def test_other_words_are_refused(words):
    with pytest.raises(UsageError):
        requirement_of(words, MEASURED)


def test_what_is_near_or_needs_masks_is_said():
    with pytest.raises(UsageError, match="did you mean accuracy"):
        requirement_of("acuracy>=0.5", MEASURED)
    with pytest.raises(UsageError, match=r"iou is not measured: it needs masks \(--masks\)"):
        requirement_of("iou>=0.5", MEASURED)


def test_controls_are_of_one_classifier():
    with pytest.raises(UsageError, match="not worse"):
        requirement_of("energy better than control", MEASURED, two=True)


@pytest.mark.parametrize(
    ("words", "value", "met"),
    [
        ("energy>=0.5", 0.5, True),
        ("energy>0.5", 0.5, False),
        ("energy<=0.5", 0.5, True),
        ("energy<0.5", 0.5, False),
        ("energy>=0.5", 0.49, False),
        ("energy>=0.5", math.nan, False),
        ("energy<0.5", math.nan, False),
        ("energy<0.5", -math.inf, False),
    ],
)
def test_a_bound(words, value, met):
    found = held(requirement_of(words, MEASURED), Told({"energy": value}))
    assert found.met is met
    assert found.requirement == words


def test_what_was_found_is_told():
    assert held(requirement_of("energy>=0.5", MEASURED), Told({"energy": 0.1234})).found == "0.1234"
    assert held(requirement_of("energy>=0.5", MEASURED), Told()).found == "no value"


def test_how_sure_two_classifiers_are_is_no_requirement():
    for relation in ("better", "not worse"):
        with pytest.raises(UsageError, match="how sure a classifier is enters early_deletion"):
            requirement_of(f"early_deletion {relation}", MEASURED, two=True)
    assert requirement_of("early_deletion<=0.5", MEASURED, two=True).bound == 0.5


@pytest.mark.parametrize(("beaten", "met"), [(True, True), (False, False), (None, False)])
def test_better_than_control(beaten, met):
    told = Told(beaten={"deletion": (beaten, "so it is")})
    found = held(requirement_of("deletion better than control", MEASURED), told)
    assert (found.met, found.found) == (met, "so it is")


@pytest.mark.parametrize(
    ("difference", "better", "not_worse"),
    [
        (Interval(0.2, 0.1, 0.3, 9), True, True),
        (Interval(0.0, -0.1, 0.1, 9), False, True),
        (Interval(-0.2, -0.3, -0.1, 9), False, False),
        (Interval(math.nan, math.nan, math.nan, 0), False, False),
    ],
)
def test_a_difference(difference, better, not_worse):
    for words, met in (("energy better", better), ("energy not worse", not_worse)):
        assert improved(requirement_of(words, MEASURED, two=True), difference).met is met


@given(st.text(max_size=30))
def test_any_words_are_read_or_refused(words):
    try:
        found = requirement_of(words, MEASURED)
    except UsageError:
        return
    assert found.metric in (*MEASURED, "accuracy")
