"""The pictures of docs/loupe.md and docs/audits.md: photo, truth, and maps beside each other.

python -m benchmarks.small_sheet CLASSIFIER DATA MASK_VALUE OUT.png [--photos N] [--seed S]
    [--map METHOD LAYER ...]

Without --map: Grad-CAM, an early layer's map, glance and loupe, as in docs/loupe.md.

The photos are drawn by the seed among the masked ones of the validation split that the network
classifies right, whatever their maps look like.
"""

import argparse
import random
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from benchmarks.small_things import Photos, _named
from mitate import Explainer, Explanation
from mitate.data.records import Record
from mitate.drawing.colour import overlay
from mitate.jobs.photos import Shot, open_shot

METHODS = (("gradcam", "auto"), ("hirescam", "early"), ("glance", "auto"), ("loupe", "auto"))
INCHES, DOTS = 1.9, 90


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("named", nargs=3)
    parser.add_argument("out", type=Path)
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--map", nargs=2, action="append", dest="maps", default=None)
    given = parser.parse_args()
    photos = _named(*given.named)
    shots = drawn(photos, given.photos, given.seed)
    early = Explainer(photos.classifier, "glance")([shots[0].photo]).layer.split(" + ")[0]
    found = [
        Explainer(photos.classifier, name, early if layer == "early" else layer)(
            [shot.photo for shot in shots], top_k=1
        )
        for name, layer in given.maps or METHODS
    ]
    draw(shots, found, given.out)


def drawn(photos: Photos, number: int, seed: int) -> list[Shot]:
    """Photos by chance, of those that are classified right and whose mask is not empty."""
    order = list(photos.records)
    random.Random(seed).shuffle(order)
    explainer, kept = Explainer(photos.classifier), list[Shot]()
    for record in order:
        shot = _opened(photos, record)
        if shot.mask is None or not shot.mask.any():
            continue
        predicted = int(explainer([shot.photo], top_k=1).predicted[0])
        if photos.classifier.class_names[predicted] == record.label:
            kept.append(shot)
        if len(kept) == number:
            break
    return kept


def draw(shots: list[Shot], found: list[Explanation], out: Path) -> None:
    """One row a photo."""
    columns = ["photo", "truth", *(f"{one.method}, {one.layer}" for one in found)]
    height = INCHES * found[0].input_size[0] / found[0].input_size[1]
    size = (INCHES * len(columns), (height + 0.02) * len(shots) + 0.3)
    figure, axes = plt.subplots(len(shots), len(columns), figsize=size, squeeze=False)
    for row, (shot, places) in enumerate(zip(shots, axes, strict=True)):
        picture = found[0].shown()[row]
        truth = Image.fromarray((np.asarray(shot.mask) * 255).astype(np.uint8)).resize(picture.size)
        heats = [overlay(picture, one.heat(row, 0, picture.size)) for one in found]
        for place, shown in zip(places, [picture, truth, *heats], strict=True):
            place.imshow(np.asarray(shown), cmap="gray")
            place.set_axis_off()
    for place, title in zip(axes[0], columns, strict=True):
        place.set_title(title, fontsize=6)
    figure.subplots_adjust(0, 0, 1, 1 - 0.25 / size[1], 0.02, 0.02)
    figure.savefig(out, dpi=DOTS)
    Image.open(out).convert("RGB").quantize(128).save(out, optimize=True)


def _opened(photos: Photos, record: Record) -> Shot:
    return open_shot(
        record,
        "",
        photos.masks,
        mask_value=photos.mask_value,
        preprocessing=photos.classifier.preprocessing,
        failures=[],
    )


if __name__ == "__main__":
    main()
