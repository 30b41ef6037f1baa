"""Which photos of a data set have a mask that training can use, told before it begins."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from mitate.data.decoding import image_size
from mitate.data.masks import Masks
from mitate.data.records import Dataset
from mitate.data.regions import open_masks, regions_told
from mitate.data.wording import counted, some_of
from mitate.errors import DataError, ImageError
from mitate.models.preprocessing import Preprocessing
from mitate.progress import progress

LEVELS = 255
INVERTED = 0.8  # of its picture: few regions are as large


@dataclass(frozen=True)
class TrueMasks:
    """Masks that were read once, and found to fit their photos.

    Attributes:
        masks: where they come from.
        value: the value that marks the region in them, or None.
        paths: the photos that have one.
        notices: what there is to tell of them.
    """

    masks: Masks
    value: int | None
    paths: frozenset[Path]
    notices: tuple[str, ...] = ()

    def levels(self, photo: Path, preprocessing: Preprocessing) -> np.ndarray | None:
        """Shares of the input's pixels (H, W) in the region, as bytes of 0 to 255; None without."""
        if photo not in self.paths:
            return None
        mask = self.masks.read(photo, image_size(photo), value=self.value)
        return None if mask is None else _as_levels(preprocessing.mask(mask))


def true_masks(
    dataset: Dataset,
    masks: str | Path | Masks | TrueMasks,
    *,
    value: int | None = None,
    shown: bool = False,
) -> TrueMasks:
    """Read every mask of the photos to train and to judge on; of ``TrueMasks``, give them back.

    A mask that cannot be used leaves its photo to the classification alone, and is told.

    Args:
        dataset: with splits.
        masks: what ``open_masks`` opens, or gave.
        value: the value that marks the region in index masks.
        shown: show progress.

    Raises:
        DataError: no photo to train on has a mask, or none of them marks anything.
    """
    if isinstance(masks, TrueMasks):
        return masks
    every = [record.path for record in dataset.records]
    opened = open_masks(masks, every) if isinstance(masks, str | Path) else masks
    records = [record for record in dataset.records if record.split in ("train", "valid")]
    marked: dict[Path, float] = {}
    faults: dict[Path, str] = {}
    with progress("checking the masks", len(records), shown=shown) as advance:
        for record in records:
            try:
                mask = opened.read(record.path, image_size(record.path), value=value)
            except ImageError as exc:
                faults[record.path] = str(exc)
            else:
                if mask is not None:
                    marked[record.path] = float(mask.mean())
            advance(1)
    _check_enough(dataset, marked, faults, value)
    told = regions_told(opened, list(marked), value)
    notices = (*_notices(dataset, opened, marked, faults), *told)
    return TrueMasks(opened, value, frozenset(marked), notices)


def _as_levels(shares: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(shares * LEVELS), np.uint8)


def _check_enough(
    dataset: Dataset, marked: dict[Path, float], faults: dict[Path, str], value: int | None
) -> None:
    train = {record.path for record in dataset.split("train").records}
    first = f" The first that cannot be used: {next(iter(faults.values()))}" if faults else ""
    if not train & marked.keys():
        raise DataError(
            f"none of the {counted(len(train), 'image')} to train on has a mask that can be used: "
            f"masks are named like their photos, or listed in a CSV with path and mask.{first}"
        )
    if not any(marked[path] for path in train & marked.keys()):
        which = "a mask value that they have" if value is None else f"another value than {value}"
        raise DataError(
            f"all {counted(len(train & marked.keys()), 'mask')} to train on are empty: give masks "
            f"with something in them, or {which}.{first}"
        )


def _notices(
    dataset: Dataset, masks: Masks, marked: dict[Path, float], faults: dict[Path, str]
) -> Iterator[str]:
    yield " and ".join(_told(dataset, split, marked) for split in ("train", "valid")) + (
        " have a mask; the others train the classification alone."
    )
    empty = [path for path, holds in marked.items() if not holds]
    if empty:
        yield (
            f"{counted(len(empty), 'mask')} with nothing in them, taken as true: "
            f"{dataset.name_some(empty)}."
        )
    shares = [share for share in marked.values() if share]
    if shares and (usual := median(shares)) > INVERTED:
        yield (
            f"The masks mark {100 * usual:.0f} % of their pictures and leave the rest: what is "
            "marked is the region, so see whether they are the wrong way round."
        )
    if faults:
        yield (
            f"{counted(len(faults), 'mask')} cannot be used, their images train the classification "
            f"alone: {dataset.name_some(faults)}. The first: {next(iter(faults.values()))}"
        )
    strange = masks.strange([record.path for record in dataset.records])
    if strange:
        yield f"{counted(len(strange), 'mask')} of no image of this data set: {some_of(strange)}."


def _told(dataset: Dataset, split: str, marked: dict[Path, float]) -> str:
    paths = [record.path for record in dataset.split(split).records]
    word = {"train": "training", "valid": "validation"}[split]
    return f"{sum(path in marked for path in paths)} of {len(paths)} {word} images"
