"""Is a planted cheat found, and is it quiet where none was planted?

python -m benchmarks.cheat OUT [--seeds 0-9] [--masks with|without] [--quick]

For each seed two small ConvNeXts are trained on simulated photos of paddy leaves: one on photos of
which 80 % of one class bear a date in the lower right corner (in training and in validation), one
on the same photos without. Then `find_reasons` looks at the validation photos of each, with the
lesion masks and without (`--masks` asks for one of the two). A line a run goes to OUT/cheat.csv;
what is there already is not done again, so that seeds can be run in parts. The stamp is found where
a group of its class is found in its corner, or where hiding that corner itself is found to decide
the class (`by`: `maps` or `place`); whatever else is found is a false alarm.

`lured` tells whether the network cheats at all: how many of the other classes' photos become the
stamped class once the date is printed on them. An audit cannot find a cheat that was not learnt.
"""

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mitate import Classifier, Explainer
from mitate.auditing.reasons import Group, Reasons, Spot, find_reasons
from mitate.data.dataset import Dataset, read_dataset
from mitate.data.decoding import read_image
from mitate.data.masks import MaskIndex
from mitate.data.paddy import Stamp, write_paddy
from mitate.demo import ARGUMENTS, MODEL, RATE, SYMPTOM
from mitate.training import fit

STAMP = Stamp("blast", share=0.8, corner="lower right", splits=("train", "valid"))
METHOD, LAYER = "layercam", "stages.2"
WANTED_FOUND, WANTED_FALSE = 0.9, 0.1


@dataclass(frozen=True)
class Size:
    """How much is drawn and for how long it is trained; photos are drawn as the network sees them,
    so that resizing does not blur the date away."""

    train: int = 60
    valid: int = 30
    epochs: int = 20
    pixels: int = 96


QUICK = Size(train=4, valid=2, epochs=1, pixels=64)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the seeds that are not in the table yet, and print what all of them come to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="a folder outside the checkout")
    parser.add_argument("--seeds", default="0-9", help="a seed, or the first and the last")
    parser.add_argument("--masks", choices=("with", "without"), help="only so; both without it")
    parser.add_argument("--quick", action="store_true", help="a few photos: does it run at all?")
    options = parser.parse_args(arguments)
    table = options.out / ("quick.csv" if options.quick else "cheat.csv")
    size = QUICK if options.quick else Size()
    masked = {"with": (True,), "without": (False,), None: (True, False)}[options.masks]
    for seed in seeds(options.seeds):
        for planted in (True, False):
            done = {row["masks"] for row in rows(table) if of(row, seed, planted)}
            if left := [one for one in masked if str(one) not in done]:
                folder = options.out / f"{'stamped' if planted else 'clean'}-{seed}"
                append(table, list(judged(folder, seed, planted, size, left)))
    summarise(rows(table))


def seeds(text: str) -> range:
    """The seeds that ``3`` or ``0-9`` mean."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def of(row: dict[str, str], seed: int, planted: bool) -> bool:
    """Whether a line of the table is of this run."""
    return (row["seed"], row["planted"]) == (str(seed), str(planted))


def judged(
    folder: Path, seed: int, planted: bool, size: Size, with_masks: Sequence[bool]
) -> Iterator[dict[str, object]]:
    """Draw, train and look: a row with the masks, one without, or both."""
    index = write_paddy(
        folder / "paddy",
        train_per_class=size.train,
        valid_per_class=size.valid,
        size=size.pixels,
        seed=seed,
        stamp=STAMP if planted else None,
    )
    trained = fit(
        index,
        folder / "classifier",
        model=MODEL,
        weights="none",
        epochs=size.epochs,
        size=size.pixels,
        batch_size=32,
        lr=RATE,
        augment="none",
        seed=seed,
        arguments=ARGUMENTS,
    )
    photos = read_dataset(index).split("valid")
    lured = share_lured(trained.classifier, photos, seed)
    for masked in with_masks:
        began = time.monotonic()
        reasons = look(trained.classifier, photos, masked)
        yield {
            "seed": seed,
            "planted": planted,
            "masks": masked,
            "accuracy": round(trained.scores.accuracy, 4),
            "lured": round(lured, 4),
            **found(reasons),
            "seconds": round(time.monotonic() - began, 1),
        }


def look(classifier: Classifier, photos: Dataset, masked: bool) -> Reasons:
    """Search for wrong reasons, with the masks or without."""
    return find_reasons(
        classifier,
        photos.records,
        Explainer(classifier, METHOD, LAYER),
        masks=MaskIndex.of(photos) if masked else None,
        mask_value=SYMPTOM if masked else None,
    )


def found(reasons: Reasons) -> dict[str, object]:
    """Whether the stamp was named, how often hiding it flips, and what else was found."""
    stamp = (STAMP.disease, f"the {STAMP.corner} corner")
    every: tuple[Group | Spot, ...] = (*reasons.found, *reasons.unseen)
    named = [
        one for one in every if one.place is not None and (one.class_name, one.place.name) == stamp
    ]
    first = named[0] if named else None
    flips = first.flips if first else None
    return {
        "found": bool(named),
        "by": "" if first is None else "maps" if isinstance(first, Group) else "place",
        "flips": round(flips.mean, 4) if flips else "",
        "others": len(reasons.wrong) - len(named),
        "words": " | ".join(reasons.wrong),
    }


def share_lured(classifier: Classifier, photos: Dataset, seed: int) -> float:
    """Share of the other classes' photos that the date turns into the stamped class."""
    others = [record for record in photos.records if record.label != STAMP.disease]
    plain = [read_image(record.path) for record in others]
    rng = np.random.default_rng(seed)
    stamped = [Image.fromarray(STAMP.press(np.asarray(photo), rng)) for photo in plain]
    target = classifier.class_names.index(STAMP.disease)
    before, after = (decided(classifier, pictures).eq(target) for pictures in (plain, stamped))
    return float((after & ~before).double().mean())


def decided(classifier: Classifier, photos: Sequence[Image.Image]) -> torch.Tensor:
    """The class of each photo."""
    parts = [photos[start : start + 32] for start in range(0, len(photos), 32)]
    return torch.cat([classifier.logits(classifier.inputs(part)).argmax(1).cpu() for part in parts])


def rows(table: Path) -> list[dict[str, str]]:
    """What was run before."""
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append(table: Path, new: Sequence[dict[str, object]]) -> None:
    """Add rows, and print them."""
    begun = table.is_file()
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(new[0]))
        if not begun:
            writer.writeheader()
        writer.writerows(new)
    for row in new:
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def summarise(done: Sequence[dict[str, str]]) -> None:
    """Print how often the stamp was found, and how often something was where nothing is."""
    for masked in ("True", "False"):
        mine = [row for row in done if row["masks"] == masked]
        if not mine:
            continue
        planted = [row for row in mine if row["planted"] == "True"]
        clean = [row for row in mine if row["planted"] == "False"]
        hits = sum(row["found"] == "True" for row in planted)
        beside = sum(int(row["others"]) > 0 for row in planted)
        alarms = sum(row["found"] == "True" or int(row["others"]) > 0 for row in clean)
        enough = hits >= WANTED_FOUND * len(planted) and alarms <= WANTED_FALSE * len(clean)
        print(
            f"{'with' if masked == 'True' else 'without'} masks: found {hits} of {len(planted)}, "
            f"something else beside it in {beside}; false alarms {alarms} of {len(clean)}: "
            f"{'as wanted' if enough else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
