"""Masks made of maps: to be corrected by hand, to be trained with, and judged where masks exist."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mitate.data.decoding import image_size, read_image
from mitate.data.made import COCO, MASKS
from mitate.data.masks import Masks
from mitate.data.records import Dataset, Record
from mitate.errors import DataError, ImageError, UsageError
from mitate.explain.explainer import Explainer
from mitate.models.preprocessing import Preprocessing
from mitate.progress import progress
from mitate.tensors import resize_maps
from mitate.training.maskfiles import Coco, check_described, write_mask
from mitate.training.overlaps import Overlaps
from mitate.training.superpixels import averaged

THRESHOLDS = np.round(np.linspace(0.05, 0.95, 19), 2)
USUAL, FEWEST = 0.5, 4
BATCH = 16
NOTHING = (
    "its map is zero everywhere and marks nothing; an empty mask would say that there is nothing: "
    "take another method or layer, or --empty for classes without anything to mark"
)
NOT_FINITE = "its map is not finite and marks nothing: take another method or layer"


@dataclass(frozen=True)
class Pseudo:
    """What came of making masks.

    Attributes:
        folder: where they are.
        number: how many were written.
        kept: names of those that were left as they are, since they were drawn or corrected by hand.
        threshold: of the maps, relative to their maxima.
        judged: photos with a true mask.
        dice: over the pixels of these, each half at the other half's threshold; None without any.
        iou: the same.
        failures: photos that cannot be read or whose map marks nothing, and masks that cannot be
            used.
    """

    folder: Path
    number: int
    kept: tuple[str, ...]
    threshold: float
    judged: int
    dice: float | None
    iou: float | None
    failures: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "folder": str(self.folder)}


def make_masks(
    explainer: Explainer,
    dataset: Dataset,
    folder: Path,
    *,
    masks: Masks | None = None,
    value: int | None = None,
    threshold: float | None = None,
    empty: Sequence[str] = (),
    superpixels: bool = False,
    shown: bool = True,
) -> Pseudo:
    """Write a mask for every photo of a data set, as PNG and all of them as COCO.

    A mask that is there and is not as it was made stays: somebody has corrected it.

    Args:
        explainer: makes the maps, of the photo's class or, where none is known, of the predicted.
        dataset: the photos.
        folder: where ``masks/`` and ``instances.json`` go.
        masks: true masks of some photos: they choose the threshold, and judge what was made.
        value: the value that marks the region in these.
        threshold: from which share of its maximum on a map is marked; None chooses it.
        empty: classes that have nothing to mark; the masks of their photos are empty.
        superpixels: average a map over each before the threshold, so that masks follow the photo's
            edges.
        shown: show progress.

    Raises:
        UsageError: a threshold outside of (0, 1], or a class that there is not; DataError: two
        photos whose masks would have one name, or a file of instances that was changed since it was
        made; MissingExtraError: superpixels without scikit-image.
    """
    _check(dataset, threshold, empty)
    check_described(folder / COCO)
    names = _names(dataset)
    failures: list[str] = []
    maps: dict[Record, np.ndarray] = {}
    with progress("explaining", len(dataset), shown=shown) as advance:
        for start in range(0, len(dataset), BATCH):
            part = dataset.records[start : start + BATCH]
            maps |= _maps(explainer, part, empty, superpixels, failures)
            advance(len(part))
    preprocessing = explainer.classifier.preprocessing
    tried = THRESHOLDS if threshold is None else np.array([threshold])
    counts = list(_counted(maps, preprocessing, masks, value, tried, failures))
    chosen = float(threshold or (tried[_best(counts)] if counts else USUAL))
    described, kept = Coco(dataset), []
    for record, values in maps.items():
        mask, place = _at_photo(values, record, preprocessing) >= chosen, folder / MASKS
        try:
            written = write_mask(mask, place / names[record])
        except ImageError as exc:
            failures.append(str(exc))
            continue
        if written is not mask:
            kept.append(names[record].as_posix())
        described.add(record, written)
    if described.images:
        described.write(folder / COCO)
    judged = _judged(counts, FEWEST if threshold is None else 1)
    return Pseudo(
        folder,
        len(described.images) - len(kept),
        tuple(kept),
        chosen,
        len(counts),
        judged.dice() if judged else None,
        judged.iou() if judged else None,
        tuple(failures),
    )


def _check(dataset: Dataset, threshold: float | None, empty: Sequence[str]) -> None:
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError(f"a threshold of {threshold}: use one above 0 and up to 1")
    strange = [name for name in empty if name not in dataset.class_names]
    if strange:
        raise UsageError(
            f"{', '.join(strange)} is no class of the data set: it has "
            f"{', '.join(dataset.class_names) or 'none'}"
        )


def _maps(
    explainer: Explainer,
    records: Sequence[Record],
    empty: Sequence[str],
    superpixels: bool,
    failures: list[str],
) -> dict[Record, np.ndarray]:
    """Maps of photos in [0, 1], at the input's pixels: those of the photos may be many."""
    photos = {}
    for record in records:
        try:
            photos[record] = read_image(record.path)
        except ImageError as exc:
            failures.append(str(exc))
    if not photos:
        return {}
    preprocessing, names = explainer.classifier.preprocessing, explainer.classifier.class_names
    inputs = explainer.classifier.inputs(list(photos.values()))
    predicted = explainer.classifier.logits(inputs).argmax(-1).tolist()
    targets = [
        names.index(record.label) if record.label in names else found
        for record, found in zip(photos, predicted, strict=True)
    ]
    made = explainer(inputs, targets=targets).maps
    resized = resize_maps(made.relu(), preprocessing.size)[:, 0].float().cpu().numpy()
    found = {}
    for (record, photo), values in zip(photos.items(), resized, strict=True):
        if record.label in empty:
            found[record] = np.zeros_like(values, np.float16)
            continue
        if superpixels and np.isfinite(values).all():
            values = averaged(values, np.asarray(preprocessing.pixels(photo)))
        peak = values.max()
        if np.isfinite(peak) and peak > 0:
            found[record] = (values / peak).astype(np.float16)
        else:
            failures.append(f"{record.path}: {NOTHING if peak == 0 else NOT_FINITE}")
    return found


def _at_photo(values: np.ndarray, record: Record, preprocessing: Preprocessing) -> np.ndarray:
    return preprocessing.restored(values, image_size(record.path))


def _counted(
    maps: dict[Record, np.ndarray],
    preprocessing: Preprocessing,
    masks: Masks | None,
    value: int | None,
    thresholds: np.ndarray,
    failures: list[str],
) -> Iterator[np.ndarray]:
    """Counts at every threshold of the photos that have a true mask."""
    if masks is None:
        return
    for record, values in maps.items():
        try:
            truth = masks.read(record.path, image_size(record.path), value=value)
        except ImageError as exc:
            failures.append(str(exc))
        else:
            if truth is not None:
                yield _counts(_at_photo(values, record, preprocessing), truth, thresholds)


def _counts(values: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Pixels both, drawn only and true only, at every threshold: (thresholds, 3)."""
    true = truth >= 0.5
    rows = []
    for threshold in thresholds:
        drawn = values >= threshold
        both = int((drawn & true).sum())
        rows.append((both, int(drawn.sum()) - both, int(true.sum()) - both))
    return np.array(rows)


def _best(counts: Sequence[np.ndarray]) -> int:
    """Which threshold has the best Dice over all pixels."""
    both, extra, missed = np.sum(counts, axis=0).T
    dice = 2 * both / np.maximum(2 * both + extra + missed, 1)
    return int(dice.argmax())


def _judged(counts: Sequence[np.ndarray], fewest: int) -> Overlaps | None:
    """Each half of the photos at the threshold that is the best on the other half."""
    if len(counts) < fewest:
        return None
    halves = (counts[::2], counts[1::2]) if len(counts) > 1 else (counts, counts)
    rows = [
        one[_best(other)]
        for half, other in zip(halves, reversed(halves), strict=True)
        for one in half
    ]
    return Overlaps(torch.from_numpy(np.stack(rows))[:, None])


def _names(dataset: Dataset) -> dict[Record, Path]:
    """Where each photo's mask goes, below the folder of masks."""
    names: dict[Record, Path] = {}
    taken: dict[Path, Path] = {}
    for record in dataset.records:
        name = Path(dataset.name(record.path))
        names[record] = (Path(name.name) if name.is_absolute() else name).with_suffix(".png")
        other = taken.setdefault(names[record], record.path)
        if other != record.path:
            raise DataError(
                f"{other} and {record.path} would have one mask, {names[record]}: rename one"
            )
    return names
