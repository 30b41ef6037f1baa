"""The photos of the story: simulated paddy leaves, of which one class bears a date."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

from mitate.data.dataset import Record, read_dataset
from mitate.data.masks import MaskIndex
from mitate.data.paddy import Stamp, write_paddy
from mitate.demo import SYMPTOM
from mitate.jobs.photos import evenly
from mitate.progress import progress
from mitate.training.masks import TrueMasks, true_masks
from mitate.training.preparing import Prepared, prepared

# Photos are drawn as the network sees them: resized, the date blurs and is not learnt.
TRAIN, VALID, PIXELS = 60, 30, 96
STAMP = Stamp("blast", share=0.8, corner="lower right", splits=("train", "valid"))
CORNER = f"the {STAMP.corner} corner"
MASKED = 0.3  # the share of the photos whose masks teach, and judge what is taught


@dataclass(frozen=True)
class Photos:
    """The photos of the story: those with the date, and validation photos without it."""

    stamped: Prepared
    plain: tuple[Record, ...]

    @property
    def judged(self) -> tuple[Record, ...]:
        """The validation photos, with the date where it is planted."""
        return self.stamped.split("valid").records

    @property
    def dated(self) -> list[Record]:
        """Those that bear it."""
        mine = [record for record in self.judged if record.label == STAMP.disease]
        return [r for number, r in enumerate(mine) if STAMP.marks("valid", STAMP.disease, number)]


def drawn(folder: Path, seed: int) -> Photos:
    """Draw the photos with the date, and the validation photos once more without."""
    with progress("drawing", 10 * (TRAIN + 2 * VALID)) as advance:
        draw = partial(
            write_paddy,
            valid_per_class=VALID,
            size=PIXELS,
            seed=seed,
            progress=lambda done, total: advance(1),
        )
        stamped = draw(folder / "paddy", train_per_class=TRAIN, stamp=STAMP)
        plain = draw(folder / "without-dates", train_per_class=0)
    return Photos(prepared(stamped), read_dataset(plain).split("valid").records)


def some_masks(dataset: Prepared) -> TrueMasks:
    """The masks of a part of each class's photos, evenly spread; those to judge on judge them."""
    masks = true_masks(dataset, MaskIndex.of(dataset), value=SYMPTOM)
    chosen: list[Path] = []
    for split, name in product(("train", "valid"), dataset.class_names):
        paths = [record.path for record in dataset.split(split).records if record.label == name]
        chosen += evenly(paths, round(MASKED * len(paths)))
    return replace(masks, paths=frozenset(chosen))
