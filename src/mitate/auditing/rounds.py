"""Successive halving: how a budget of forwards is spent on the contenders."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mitate.auditing.comparison import FEWEST
from mitate.errors import UsageError

UNITS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
THOUSANDS = {"": 1.0, "k": 1e3, "M": 1e6}


@dataclass(frozen=True)
class Budget:
    """What an audit may cost: forwards, or seconds."""

    forwards: float | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, words: str | float | None) -> "Budget | None":
        """The budget of ``200k`` or ``50000`` (forwards), ``90s``, ``10min`` or ``1h``.

        Raises:
            UsageError: anything else.
        """
        if words is None:
            return None
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([a-zA-Z]*)", str(words).strip())
        number, unit = (float(found[1]), found[2]) if found else (0.0, "?")
        if number > 0 and unit in THOUSANDS:
            return cls(forwards=number * THOUSANDS[unit])
        if number > 0 and unit in UNITS:
            return cls(seconds=number * UNITS[unit])
        raise UsageError(
            f"a budget of {words!r}: write forwards such as 50000 or 200k, or time such as 90s, "
            "10min or 1h"
        )

    def in_forwards(self, seconds_a_forward: float) -> float:
        """The budget in forwards, where time is told by what a forward takes."""
        if self.forwards is not None:
            return self.forwards
        return (self.seconds or 0.0) / max(seconds_a_forward, 1e-9)

    def left(self, forwards: float, seconds: float) -> float:
        """What is left of it, in forwards, when so many have taken so long."""
        pace = seconds / forwards if forwards else 0.0
        return max(0.0, self.in_forwards(pace) - forwards)


def least(costs: Sequence[float], floor: float, images: int) -> float:
    """Forwards that six images of everyone take: fewer are not compared."""
    return min(FEWEST, images) * (sum(costs) + floor)


def images_a_round(
    costs: Sequence[float], floor: float, images: int, budget: float | None
) -> list[tuple[int, int]]:
    """Contenders and new images in each round of successive halving.

    After Jamieson & Talwalkar 2016 (arXiv:1502.07943, fig. 3): each of ceil(log2 n) rounds has an
    equal part of the budget, spends it on new images for those that are left, and drops the worse
    half. What a round leaves goes to the next; the dearest contenders are taken to be those that
    are left. Without a budget there is one round.

    Args:
        costs: of an image of each contender, in forwards.
        floor: of an image of all controls, which see every image.
        images: how many there are.
        budget: in forwards.

    Raises:
        UsageError: a budget that does not reach for six images of everyone.
    """
    if budget is None:
        return [(len(costs), images)]
    fewest, needed = min(FEWEST, images), least(costs, floor, images)
    rounds = max(1, math.ceil(math.log2(max(len(costs), 1))))
    if budget < needed:
        raise UsageError(
            f"a budget of {budget:.0f} forwards is too small: {fewest} images of {len(costs)} "
            f"contenders and the controls need {needed:.0f}; raise it, or name fewer methods, "
            "layers or metrics"
        )
    dearest, left, seen, plan = sorted(costs, reverse=True), budget, 0, list[tuple[int, int]]()
    for number in range(rounds):
        alive = math.ceil(len(costs) / 2**number)
        an_image = sum(dearest[:alive]) + floor
        share = left / (rounds - number)
        new = max(int(share / an_image), fewest if number == 0 else 0)
        new = min(new, images - seen, int(left / an_image))
        if new > 0:
            plan.append((alive, new))
        left, seen = left - new * an_image, seen + new
    return plan
