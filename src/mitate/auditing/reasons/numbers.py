"""Numbers as they stand in sentences and in JSON."""

import numpy as np

from mitate.auditing.intervals import Interval


def percent(share: float) -> str:
    """A share in [0, 1] as in ``31 %``."""
    return f"{100 * share:.0f} %"


def number_data(value: float | None) -> float | None:
    """A number for JSON, to six digits; None where it is none."""
    return None if value is None or not np.isfinite(value) else round(float(value), 6)


def interval_data(interval: Interval | None) -> dict[str, float | int | None] | None:
    """An interval for JSON."""
    if interval is None:
        return None
    return {
        "mean": number_data(interval.mean),
        "low": number_data(interval.low),
        "high": number_data(interval.high),
        "images": interval.images,
        "missing": interval.missing,
    }
