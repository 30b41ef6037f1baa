"""Which metric that needs no masks picks the map that lies best on the masks.

python -m benchmarks.picking REF DATA MASKS [--mask-value N] [--limit N]    prints a table

For one classifier and a data set with masks: every faithfulness metric of the table over all
default maps, the rank correlation of its means with the energy on the masks, the map that it would
pick, and that map's energy. For the coffee leaves beside the checkout:

mitate train ../shared/data/coffee_leaf/index.csv --model mobilenetv2_100 --size 128x256 -o coffee
python -m benchmarks.picking coffee ../shared/data/coffee_leaf/index.csv \\
    ../shared/data/coffee_leaf/index.csv --mask-value 2
"""

import argparse
from pathlib import Path

import numpy as np

from mitate import audit
from mitate.auditing.audit import Audit
from mitate.auditing.table import METRICS
from mitate.auditing.values import best_first, mean_of

TRUTH = "energy"


def main(arguments: argparse.Namespace) -> None:
    """Print a line a metric, the best correlation first."""
    faithful = [name for name, one in METRICS.items() if one.family == "faithfulness"]
    done = audit(
        arguments.ref,
        arguments.data,
        masks=arguments.masks,
        mask_value=arguments.mask_value,
        limit=arguments.limit,
        metrics=[*faithful, TRUTH],
        audited=arguments.audited,
        reasons=0,
        tell=print,
        shown=True,
    )
    names = [one.name for one in done.entrants if not one.is_control]
    truth = _means(done, TRUTH, names)
    lines = []
    for metric in faithful:
        means = _means(done, metric, names)
        sign = 1 if METRICS[metric].better == "higher" else -1
        known = [name for name in names if np.isfinite(means[name]) and np.isfinite(truth[name])]
        picked = best_first(means, METRICS[metric].better == "higher")[0]
        correlation = sign * _ranked([means[n] for n in known], [truth[n] for n in known])
        lines.append((correlation, metric, picked, truth[picked]))
    print(f"| metric | rank correlation with {TRUTH} | picks | its {TRUTH} |")
    print("| --- | --- | --- | --- |")
    for correlation, metric, picked, share in sorted(lines, key=lambda line: -line[0]):
        print(f"| {metric} | {correlation:.2f} | {picked} | {share:.3f} |")
    best = best_first(truth, True)[0]
    controls = [one.name for one in done.entrants if one.is_control]
    floor = max(_means(done, TRUTH, controls).values())
    print(f"best map: {best}, {truth[best]:.3f}; best control {floor:.3f}")
    print(f"{done.verdict.headline} {' '.join(done.verdict.sentences)}")


def _means(done: Audit, metric: str, names: list[str]) -> dict[str, float]:
    return {name: mean_of(done.values.of(name, metric)) for name in names}


def _ranked(first: list[float], second: list[float]) -> float:
    """Spearman's rank correlation; ties in the order that they stand in."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1]) if len(first) > 1 else float("nan")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ref")
    parser.add_argument("data", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--mask-value", type=int, default=None)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--audited", choices=("label", "predicted"), default="label")
    main(parser.parse_args())
