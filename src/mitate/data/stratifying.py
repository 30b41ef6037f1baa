"""Which units of images go to valid, so that every class has its share there."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np


class Draw:
    """Draws whole units, each told by its number of images a class; rare classes first."""

    def __init__(self, units: Sequence[Counter[str]]) -> None:
        self.units = units
        self.totals: Counter[str] = Counter()
        for unit in units:
            self.totals.update(unit)
        self.taken: Counter[str] = Counter()
        self.drawn: set[int] = set()

    def draw(self, fraction: float, rng: np.random.Generator) -> set[int]:
        """The numbers of the units for valid; every class keeps an image in train."""
        holders: dict[str, list[int]] = defaultdict(list)
        for number in rng.permutation(len(self.units)).tolist():
            for label in self.units[number]:
                holders[label].append(number)
        for label in sorted(self.totals, key=lambda name: (self.totals[name], name)):
            wanted = min(max(1, round(fraction * self.totals[label])), self.totals[label] - 1)
            self._fill(label, wanted, holders[label])
        return self.drawn

    def _fill(self, label: str, wanted: int, holders: Sequence[int]) -> None:
        for number in holders:
            missing = wanted - self.taken[label]
            if missing <= 0:
                return
            if self.units[number][label] < 2 * missing:  # brings nearer to what is wanted
                self._take(number)
        for number in sorted(holders, key=lambda number: self.units[number][label]):
            if self.taken[label] or not wanted:
                return
            self._take(number)

    def _take(self, number: int) -> None:
        unit = self.units[number]
        leaves_train = all(self.totals[name] > self.taken[name] + n for name, n in unit.items())
        if leaves_train and number not in self.drawn:
            self.drawn.add(number)
            self.taken.update(unit)
