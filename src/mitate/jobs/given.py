"""What is given to be audited: photos on disk with their masks and labels, or tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mitate.auditing.subjects import Batch, Subjects, subjects_of
from mitate.data.masks import WITHOUT, Masks
from mitate.data.records import Record
from mitate.data.regions import regions_told
from mitate.data.wording import counted
from mitate.errors import ImageError, UsageError
from mitate.explain.inputs import Images, prepare
from mitate.explain.targets import UNKNOWN, Labels, label_indices
from mitate.jobs.photos import (
    Shot,
    folder_of,
    names_from,
    open_masks,
    open_shot,
    reported,
    with_known_labels,
)
from mitate.jobs.sampling import sample, shows_region
from mitate.models.classifier import Classifier
from mitate.progress import progress
from mitate.tensors import digest_of

LIMIT = 64
NO_MASK = "no photo has a mask with anything in it where the network looks"
Values = tuple[int | None, int | None]


@dataclass(frozen=True)
class Given:
    """What is audited, photos that cannot be read, and what the reader has to tell.

    ``photos`` and ``masks`` are all that there is to look for wrong reasons in, and ``root`` is
    where photos on disk are.
    """

    subjects: Subjects
    photos: Sequence[Record] | Tensor
    masks: Masks | Tensor | None
    labels: Labels | None = None
    root: Path | None = None
    failures: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def given(
    classifier: Classifier,
    data: str | Path | Images,
    masks: str | Path | Masks | Tensor | None,
    values: Values,
    labels: Labels | None,
    split: str | None,
    limit: int | None,
    shown: bool,
) -> Given:
    """Read what ``mitate.audit`` was given; the arguments are its own.

    Raises:
        UsageError: arguments that do not go together; DataError: data or masks that cannot be used;
        ImageError: none of the photos can be read.
    """
    if not isinstance(data, str | Path):
        if split is not None or not (masks is None or isinstance(masks, Tensor)):
            raise UsageError(
                "images that are given have no split, and their masks are a tensor (b, H, W): for "
                "masks on disk give the folder of the photos"
            )
        return _of_images(classifier, data, masks, labels, limit)
    if isinstance(masks, Tensor) or labels is not None:
        raise UsageError(
            "the masks and labels of photos on disk are on disk: give a folder or CSV of masks, "
            "and labels as folders or in the CSV of the data set"
        )
    records, notices = reported(Path(data), classifier, split)
    index = masks if isinstance(masks, Masks) else open_masks(masks, data)
    records = with_known_labels(records, classifier.class_names)
    taken = sample(records, limit, shows_region(index, values[0], classifier.preprocessing))
    root = folder_of(Path(data))
    subjects, failures = photo_subjects(
        classifier, taken.chosen, index, values, root=root, shown=shown
    )
    if not len(subjects):
        raise ImageError(f"none of the {len(taken.chosen)} photos can be read: {failures[0]}")
    check_usable(subjects, failures)
    told = regions_told(index, [record.path for record in taken.chosen], values[0])
    notices = (*notices, *taken.notices, *told)
    if index is not None and not subjects.masked:
        notices = (*notices, f"{NO_MASK}{_of_no_photo(index, records)}")
    return Given(subjects, records, index, None, root, tuple(failures), tuple(notices))


def _of_no_photo(masks: Masks, records: Sequence[Record]) -> str:
    """What there is to add where masks belong to none of the photos."""
    strange = masks.strange([record.path for record in records])
    if not strange:
        return ""
    return (
        f"; {counted(len(strange), 'mask')} of no photo here, such as {strange[0]} beside the "
        f"photo {records[0].path.name}: masks are named like their photos, or listed in a CSV with "
        "path and mask"
    )


def check_usable(subjects: Subjects, failures: Sequence[str]) -> None:
    """Refuse masks of which not one tells anything, before the work.

    Raises:
        ImageError: there are some that cannot be used, and none that shows a region.
    """
    unusable = [line for line in failures if line.endswith(WITHOUT)]
    if unusable and not subjects.masked:
        raise ImageError(
            f"none of the {counted(len(unusable), 'mask')} can be used: "
            f"{unusable[0].removesuffix(WITHOUT)}"
        )


def _of_images(
    classifier: Classifier,
    images: Images,
    masks: Tensor | None,
    labels: Labels | None,
    limit: int | None,
) -> Given:
    batch = prepare(classifier, images)
    if batch.inputs.ndim != 4:
        raise UsageError("an audit is of images, not of volumes: give (b, channels, H, W)")
    known = label_indices(labels, len(batch.inputs), classifier.class_names)
    every = subjects_of(batch.inputs, names=batch.names, labels=known, masks=masks)
    shows = None if masks is None else (masks > 0).flatten(1).any(1).tolist().__getitem__
    taken = sample(range(len(every)), limit, shows)
    return Given(every.at(taken.chosen), batch.inputs, masks, labels, notices=taken.notices)


def photo_subjects(
    classifier: Classifier,
    records: Sequence[Record],
    masks: Masks | None,
    values: Values = (None, None),
    *,
    root: Path | None = None,
    shown: bool = False,
) -> tuple[Subjects, list[str]]:
    """Photos on disk that can be read, opened once to see whether; and why others cannot.

    ``values`` are those of index masks that mark the region and the object around it; below
    ``root`` photos are called by their paths from there, and otherwise as briefly as tells them
    apart.
    """

    def shot_of(record: Record, name: str, told: list[str]) -> Shot:
        return open_shot(
            record,
            name,
            masks,
            mask_value=values[0],
            object_value=values[1],
            preprocessing=classifier.preprocessing,
            failures=told,
        )

    names = names_from(root, [record.path for record in records])
    kept, failures, unusable = list[Opened](), list[str](), list[str]()
    with progress("reading photos", len(records), shown=shown) as advance:
        for record, name in zip(records, names, strict=True):
            try:
                kept.append(_seen(classifier, shot_of(record, name, unusable)))
            except ImageError as exc:
                failures.append(str(exc))
            advance(1)

    def opened(places: Sequence[int]) -> Batch:
        shots = [shot_of(kept[place].record, kept[place].name, []) for place in places]
        inputs = classifier.inputs([shot.photo for shot in shots])
        if masks is None:
            return Batch(inputs)
        regions = _stacked([shot.mask for shot in shots], inputs)
        if values[1] is None:
            return Batch(inputs, regions)
        return Batch(inputs, regions, _stacked([shot.around for shot in shots], inputs))

    found = classifier.class_names
    subjects = Subjects(
        names=tuple(one.name for one in kept),
        labels=tuple(
            UNKNOWN if one.record.label is None else found.index(one.record.label) for one in kept
        ),
        digests=tuple(one.digest for one in kept),
        open=opened,
        masked=any(one.masked for one in kept),
    )
    return subjects, [*failures, *unusable]


@dataclass(frozen=True)
class Opened:
    """A photo that can be read."""

    record: Record
    name: str
    digest: str
    masked: bool


def _seen(classifier: Classifier, shot: Shot) -> Opened:
    inputs = classifier.inputs([shot.photo])
    if not bool(inputs.isfinite().all()):
        raise ImageError(f"{shot.name}: after preprocessing it holds values that are not finite")
    drawn = [torch.tensor(mask) for mask in (shot.mask, shot.around) if mask is not None]
    masked = shot.mask is not None and bool(drawn[0].any())
    return Opened(shot.record, shot.name, digest_of(inputs, *drawn), masked)


def _stacked(masks: Sequence[np.ndarray | None], inputs: Tensor) -> Tensor:
    """Masks of all photos; a photo without one has an empty one."""
    empty = torch.zeros(tuple(inputs.shape[2:]))
    return torch.stack([empty if mask is None else torch.tensor(mask) for mask in masks])
