"""Bootstrap intervals of means over images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
DRAWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % percentile bootstrap interval, over so many images.

    ``missing`` counts the images whose value is NaN: they are in no mean.
    """

    mean: float
    low: float
    high: float
    images: int
    missing: int = 0


def mean_interval(values: NDArray[np.floating], seed: int = 0) -> Interval:
    """The mean of what is finite, with its interval (Efron 1979)."""
    finite = values[np.isfinite(values)]
    images, missing = len(finite), int(len(values) - len(finite))
    if images == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0, missing)
    rng = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // images)
    means = [
        finite[rng.integers(0, images, (min(at_once, RESAMPLES - start), images))].mean(1)
        for start in range(0, RESAMPLES, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(finite.mean()), float(low), float(high), images, missing)


def paired_interval(
    values: NDArray[np.floating], others: NDArray[np.floating], seed: int = 0
) -> Interval:
    """The mean difference between two values of the same images, with its interval."""
    return mean_interval(values - others, seed)
