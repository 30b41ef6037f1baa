"""Thresholds that an audit must reach, as they are written on the command line."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol, runtime_checkable

from mitate.auditing.intervals import Interval
from mitate.auditing.table import METRICS, find_metric
from mitate.errors import UsageError

ACCURACY = "accuracy"
NEAR = 0.8  # as difflib counts, from 0 for other words to 1 for the same
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}
NUMBER = re.compile(r"\s*([a-z_ ]+?)\s*(>=|<=|>|<)\s*([0-9.eE+-]+)\s*")
WORDS = re.compile(r"\s*([a-z_ ]+?)\s+(better than control|not worse|better)\s*")
CONTROL, BETTER, NOT_WORSE = "better than control", "better", "not worse"
HOW = "write energy>=0.5 or 'deletion better than control'"
HOW_TWO = "write accuracy>=0.9, 'energy better' or 'accuracy not worse'"


@dataclass(frozen=True)
class Requirement:
    """One threshold.

    Attributes:
        words: as it was written.
        metric: a metric's name, or accuracy.
        relation: ``>=``, ``<=``, ``>``, ``<``, or one of the relations in words.
        bound: the number; NaN for relations in words.
    """

    words: str
    metric: str
    relation: str
    bound: float = math.nan


@dataclass(frozen=True)
class Outcome:
    """Whether a requirement was met, and what was found."""

    requirement: str
    met: bool
    found: str


@runtime_checkable
class Told(Protocol):
    """What a requirement is held against."""

    def value(self, metric: str) -> float:
        """The mean, NaN where there is none."""

    def beaten(self, metric: str) -> tuple[bool | None, str]:
        """Whether every control is beaten, and the words for it."""


def requirement_of(words: str, metrics: Sequence[str], *, two: bool = False) -> Requirement:
    """Read a requirement.

    Args:
        words: such as ``energy>=0.5``, ``deletion better than control``; of two classifiers
            ``accuracy not worse`` and ``energy better``.
        metrics: what is measured.
        two: whether two classifiers are compared.

    Raises:
        UsageError: words that are none, or a metric that is unknown or not measured.
    """
    how = HOW_TWO if two else HOW
    number, relation = NUMBER.fullmatch(words), WORDS.fullmatch(words)
    found = number or relation
    if found is None or (relation and (relation[2] == CONTROL) == two):
        raise UsageError(f"requirement {words!r}: {how}")
    metric = found[1].replace(" ", "_")
    if metric != ACCURACY:
        if get_close_matches(metric, [ACCURACY], cutoff=NEAR) and metric not in METRICS:
            raise UsageError(f"requirement {words!r}: did you mean {ACCURACY}?")
        metric = find_metric(metric).name
        if metric not in metrics:
            masks = ": it needs masks (--masks)" if METRICS[metric].needs_masks else ""
            raise UsageError(
                f"requirement {words!r}: {metric} is not measured{masks}; measured are "
                f"{', '.join(metrics)}"
            )
        if two and number is None and METRICS[metric].follows_confidence:
            raise UsageError(
                f"requirement {words!r}: how sure a classifier is enters {metric}, so that the "
                "less sure of two has another value whatever its maps. Require accuracy or energy, "
                f"and of each by itself mitate audit --require '{metric} better than control'"
            )
    elif found[2] == CONTROL:
        raise UsageError(f"requirement {words!r}: controls have no accuracy; {how}")
    if number is None:
        return Requirement(words, metric, found[2])
    try:
        return Requirement(words, metric, number[2], float(number[3]))
    except ValueError as exc:
        raise UsageError(f"requirement {words!r}: {number[3]!r} is no number; {how}") from exc


def held(requirement: Requirement, told: Told) -> Outcome:
    """Whether a number reaches a bound, or a map is better than every control.

    What has no number misses every threshold.
    """
    if requirement.relation == CONTROL:
        beaten, words = told.beaten(requirement.metric)
        return Outcome(requirement.words, beaten is True, words or "not judged")
    return bounded(requirement, told.value(requirement.metric))


def bounded(requirement: Requirement, value: float) -> Outcome:
    """Whether a number reaches the bound."""
    met = math.isfinite(value) and COMPARISONS[requirement.relation](value, requirement.bound)
    found = f"{value:.4g}" if math.isfinite(value) else "no value"
    return Outcome(requirement.words, met, found)


def improved(requirement: Requirement, difference: Interval) -> Outcome:
    """Whether a paired difference, above 0 where it is better, says better or not worse.

    ``better``: its interval lies above 0. ``not worse``: it does not lie below 0. Without images in
    common neither is met.
    """
    met = difference.low > 0 if requirement.relation == BETTER else difference.high >= 0
    found = f"{difference.mean:+.4g} ({difference.low:+.4g} to {difference.high:+.4g})"
    return Outcome(requirement.words, met, found if difference.images else "no image in common")


def higher_is_better(metric: str) -> bool:
    """Which way a metric, or the accuracy, is better."""
    return metric == ACCURACY or METRICS[metric].better == "higher"
