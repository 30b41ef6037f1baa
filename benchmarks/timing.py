"""Ratios of times in one process, on a machine that others use too."""

import gc
import time
from collections.abc import Callable, Mapping

Work = Callable[[], object]


def best_seconds(works: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """The best time of each work; the works take turns, so that a noisy minute hits them all."""
    best = dict.fromkeys(works, float("inf"))
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            gc.collect()
            begun = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - begun)
    return best
