"""Is it the masks that help the story's second network, or only that it is trained for longer?

python -m benchmarks.story_control OUT [--seeds 0 1 2 3 4] [--quick]

For each seed the story's first network, its second one, and one without masks that is trained for
as many epochs as the second. Printed: the share of the photos without a date that each recognises,
of all and of the class that bears the date in training, the share of other classes' photos that
the date turns into that class, and how many more the second recognises than each of the others,
photo by photo.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np

from benchmarks.small_things import told
from mitate import Classifier
from mitate.auditing.intervals import mean_interval, paired_interval
from mitate.data.decoding import read_image
from mitate.story.judging import lured, said
from mitate.story.photos import STAMP, Photos, drawn, some_masks
from mitate.story.story import EPOCHS, trained
from mitate.training.selftraining import passes

FIRST, LONGER, SECOND = "without masks", "without masks, as long", "with masks"


def main() -> None:
    """Train, and print a line a network and two gains a seed."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--quick", action="store_true", help="a trial: one epoch, one seed")
    asked = parser.parse_args()
    whole = sum(passes(EPOCHS))
    print("| seed | network | epochs | recognised | of the dated class | turned by the date |")
    print("| --- | --- | --- | --- | --- | --- |")
    for seed in asked.seeds[:1] if asked.quick else asked.seeds:
        folder = asked.out / str(seed)
        photos = drawn(folder, seed)
        right: dict[str, np.ndarray] = {}
        for name, epochs in ((FIRST, EPOCHS), (LONGER, whole), (SECOND, EPOCHS)):
            masks = some_masks(photos.stamped) if name == SECOND else None
            classifier = trained(
                photos, folder / name, seed, masks, epochs=1 if asked.quick else epochs
            )
            right[name], line = measured(classifier, photos, seed)
            shown = whole if name == SECOND else epochs
            print(f"| {seed} | {name} | {shown} | {line} |", flush=True)
        for name in (FIRST, LONGER):
            gain = paired_interval(right[SECOND], right[name])
            print(f"seed {seed}: {SECOND} {told(gain)} over {name}", flush=True)


def measured(classifier: Classifier, photos: Photos, seed: int) -> tuple[np.ndarray, str]:
    """Whether each photo without a date is recognised, and the figures of a network's line."""
    labels = np.array([record.label for record in photos.plain])
    pictures = [read_image(record.path) for record in photos.plain]
    found = np.array(list(said(classifier, pictures)))
    right = (found == labels).astype(float)
    turned = lured(classifier, pictures, labels, found, seed).astype(float)
    parts = (right, right[labels == STAMP.disease], turned)
    return right, " | ".join(told(mean_interval(part)) for part in parts)


if __name__ == "__main__":
    main()
