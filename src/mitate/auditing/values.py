"""What was measured: one value an image, contender and metric; and mean curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

Numbers = Float[np.ndarray, " _images"]


@dataclass(frozen=True)
class Part:
    """What was measured of one batch of images.

    Attributes:
        places: of the images among all.
        contenders: names, in the order of the first axes below.
        metrics: names.
        values: one an image; NaN where there is none.
        empty: maps that are zero, constant or not finite.
        curves: by name, what the class's score was at each step; NaN where there is none.
        fractions: where the steps of each curve are.
        forwards: what it took.
        seconds: likewise.
    """

    places: tuple[int, ...]
    contenders: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Float[np.ndarray, "contenders metrics b"]
    empty: Bool[np.ndarray, "contenders b"]
    curves: Mapping[str, Float[np.ndarray, "contenders b steps"]]
    fractions: Mapping[str, Float[np.ndarray, " steps"]]
    forwards: float
    seconds: float


@dataclass
class Values:
    """Every part, one after the other. A contender that was dropped has fewer images than others.

    All have seen the first images, so that two of them are compared on what both saw.
    """

    columns: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)
    curves: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)
    fractions: dict[str, np.ndarray] = field(default_factory=dict)
    images: int = 0

    def add(self, part: Part) -> None:
        """Add a part, whose images follow those that are here."""
        for row, contender in enumerate(part.contenders):
            self.empty[contender] = self.empty.get(contender, 0) + int(part.empty[row].sum())
            for column, metric in enumerate(part.metrics):
                kept = self.columns.setdefault((contender, metric), [])
                kept.extend(part.values[row, column].tolist())
            for name, curve in part.curves.items():
                self.curves.setdefault((contender, name), []).extend(curve[row])
        self.fractions.update(part.fractions)
        self.images += len(part.places)

    def of(self, contender: str, metric: str) -> Numbers:
        """One value an image that the contender saw; NaN where there is none."""
        return np.asarray(self.columns.get((contender, metric), []), dtype=np.float64)

    def seen(self, contender: str) -> int:
        """How many images a contender was measured on."""
        return max(
            (len(v) for (name, _), v in self.columns.items() if name == contender), default=0
        )

    def curve(self, contender: str, name: str) -> Numbers:
        """The mean curve over the images that have one."""
        rows = self.curves.get((contender, name), [])
        finite = [row for row in rows if np.isfinite(row).all()]
        return np.mean(finite, axis=0) if finite else np.empty(0)


def paired(first: Numbers, second: Numbers) -> tuple[Numbers, Numbers]:
    """Two columns of values on the images that both have seen."""
    common = min(len(first), len(second))
    return first[:common], second[:common]


def mean_of(values: Numbers) -> float:
    """The mean of what is finite, NaN where nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def best_first(means: Mapping[str, float], higher: bool) -> Sequence[str]:
    """Names from the best mean to the worst; those without a mean last, ties as they stand."""

    def rank(name: str) -> float:
        if not np.isfinite(means[name]):
            return float("inf")
        return -means[name] if higher else means[name]

    return sorted(means, key=rank)
