"""Which metric that needs no masks picks the map that lies best on the masks.

python -m benchmarks.picking AUDIT [AUDIT ...]    prints tables

Reads finished audits (folders with an audit.csv) of classifiers on data sets with masks. For
every metric of faithfulness: the rank correlation of its means with the energy on the masks, over
all maps, and over the controls too; the map that it would pick; and that map's energy. With several
audits, the mean correlation of each metric, and of each pair of metrics by the mean of their ranks.
For the coffee leaves beside the checkout:

LEAVES=../shared/data/coffee_leaf/index.csv
mitate train $LEAVES --model mobilenetv2_100 --size 128x256 -o coffee
mitate audit coffee $LEAVES --masks $LEAVES --mask-value 2 \\
    --metric faithfulness --metric localisation -o audited
python -m benchmarks.picking audited
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from mitate import imports
from mitate.auditing.files import TABLE
from mitate.auditing.table import METRICS
from mitate.auditing.values import best_first, mean_of

TRUTH = "energy"
PAIRS = 5


@dataclass(frozen=True)
class Means:
    """The mean of every metric of every map of one audit, and of the controls."""

    name: str
    of: dict[tuple[str, str], float]
    maps: tuple[str, ...]
    controls: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> "Means":
        """Average an audit's table over the images."""
        columns: dict[tuple[str, str], list[float]] = {}
        kinds: dict[str, str] = {}
        with (folder / TABLE).open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                control = row["kind"] != "method"
                name = f"{row['method']} {row['layer']}" + (f" ({row['kind']})" if control else "")
                kinds[name] = row["kind"]
                value = float(row["value"]) if row["value"] else float("nan")
                columns.setdefault((name, row["metric"]), []).append(value)
        means = {key: mean_of(np.asarray(values)) for key, values in columns.items()}
        maps = tuple(name for name, kind in kinds.items() if kind == "method")
        if not any(metric == TRUTH for _, metric in means):
            raise SystemExit(f"{folder} has no {TRUTH}: audit a data set with masks")
        return cls(folder.name, means, maps, tuple(name for name in kinds if name not in maps))

    def metrics(self) -> list[str]:
        """The metrics of faithfulness that were measured."""
        measured = {metric for _, metric in self.of}
        return [n for n, one in METRICS.items() if one.family == "faithfulness" and n in measured]

    def column(self, metric: str, names: Sequence[str]) -> list[float]:
        """Of some maps, the higher the better."""
        sign = 1 if METRICS[metric].better == "higher" else -1
        return [sign * self.of[name, metric] for name in names]

    def correlation(self, metrics: Sequence[str], *, controls: bool = False) -> float:
        """Spearman's, of the mean of the ranks by some metrics with the energy on the masks.

        NaN where a map has no value in one of them.
        """
        stats, names = imports.scipy("stats"), self.maps + (self.controls if controls else ())
        ranks = [stats.rankdata(self.column(metric, names)) for metric in metrics]
        return float(stats.spearmanr(np.mean(ranks, axis=0), self.column(TRUTH, names)).statistic)

    def picked(self, metric: str) -> str:
        """The map that a metric takes for the best."""
        column = self.column(metric, self.maps)
        return best_first(dict(zip(self.maps, column, strict=True)), True)[0]

    def lines(self) -> Iterator[str]:
        """A line a metric, the best correlation first; then the map that is best in truth."""
        yield f"{self.name}: {len(self.maps)} maps"
        yield f"| metric | rank correlation with {TRUTH} | controls too | picks | its {TRUTH} |"
        yield "| --- | --- | --- | --- | --- |"
        for metric in sorted(self.metrics(), key=lambda one: -self.correlation([one])):
            picked = self.picked(metric)
            told = [self.correlation([metric], controls=also) for also in (False, True)]
            share = self.of[picked, TRUTH]
            yield f"| `{metric}` | {told[0]:.2f} | {told[1]:.2f} | {picked} | {share:.3f} |"
        best = self.picked(TRUTH)
        floor = max((name for name in self.controls), key=lambda name: self.of[name, TRUTH])
        yield (
            f"best map: {best}, {self.of[best, TRUTH]:.3f}; "
            f"best control: {floor}, {self.of[floor, TRUTH]:.3f}"
        )


def across(audits: Sequence[Means]) -> Iterator[str]:
    """The mean correlation of each metric over the audits, and of the best pairs of metrics."""
    shared = [m for m in audits[0].metrics() if all(m in one.metrics() for one in audits)]
    single = [(metric,) for metric in shared]
    pairs = list(combinations(shared, 2))
    yield f"| over {', '.join(one.name for one in audits)} | mean rank correlation | least |"
    yield "| --- | --- | --- |"
    for choices, number in ((single, len(single)), (pairs, PAIRS)):
        found = {chosen: [one.correlation(chosen) for one in audits] for chosen in choices}
        for chosen in sorted(found, key=lambda one: -float(np.mean(found[one])))[:number]:
            named = " and ".join(f"`{metric}`" for metric in chosen)
            yield f"| {named} | {np.mean(found[chosen]):.2f} | {min(found[chosen]):.2f} |"


def main(folders: Sequence[Path]) -> None:
    """Print a table an audit, and what they have in common."""
    audits = [Means.read(folder) for folder in folders]
    for one in audits:
        print("\n".join([*one.lines(), ""]))
    if len(audits) > 1:
        print("\n".join(across(audits)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("audits", type=Path, nargs="+")
    main(parser.parse_args().audits)
