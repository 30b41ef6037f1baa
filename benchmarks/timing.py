"""Ratios of times in one process, on a machine that others use too."""

import gc
import time
from collections.abc import Callable, Mapping

Work = Callable[[], object]
LONG = 20.0  # seconds: what takes longer is taken as it first ran, for its start weighs nothing
# What takes fewer seconds is run so often in a round: a busy moment weighs more there.
SHORT, TURNS = 3.0, 3


def best_seconds(works: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """The best time of each work; the works take turns, so that a noisy minute hits them all."""
    first = {name: seconds(work) for name, work in works.items()}
    best = {name: found for name, found in first.items() if found > LONG}
    for turn in range(rounds * TURNS):
        for name in works:
            if first[name] <= (SHORT if turn % TURNS else LONG):
                best[name] = min(best.get(name, float("inf")), seconds(works[name]))
    return best


def seconds(work: Work) -> float:
    """How long a work takes once."""
    gc.collect()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
