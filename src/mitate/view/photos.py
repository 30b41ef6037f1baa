"""Photos that a command was asked to explain: where they are, what is true of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mitate.data.dataset import read_dataset
from mitate.data.decoding import find_images, read_image
from mitate.data.masks import MaskIndex, read_mask
from mitate.data.records import Record
from mitate.data.tables import table_in
from mitate.errors import DataError, ImageError, UsageError
from mitate.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class Shot:
    """One photo to explain, decoded."""

    record: Record
    name: str
    photo: Image.Image
    mask: np.ndarray | None = None


def gather(
    sources: Sequence[str | Path],
    class_names: Sequence[str],
    *,
    label: str | None = None,
    split: str | None = None,
) -> list[Record]:
    """Records of images, folders and data sets (a CSV or a folder with index.csv).

    The true class is the CSV's, ``label`` where given, or the image's folder where that is a class.

    Raises:
        ImageError: a path that does not exist; UsageError: an unknown label or an empty choice.
    """
    if label is not None and label not in class_names:
        raise UsageError(
            f"{label!r} is no class of this classifier; its classes: {', '.join(class_names[:12])}"
        )
    records: list[Record] = []
    for source in map(Path, sources):
        if source.exists() and table_in(source) is not None:
            records += read_dataset(source).records
        else:
            records += [_record(path, class_names) for path in find_images(source)]
    if label is not None:
        records = [Record(r.path, label, r.mask, r.split, r.group) for r in records]
    chosen = [r for r in records if split is None or r.split == split]
    if not chosen:
        raise UsageError(f"no image is left to explain{f' in split {split!r}' if split else ''}")
    return chosen


def open_shot(
    record: Record,
    masks: MaskIndex | None,
    *,
    mask_value: int | None,
    preprocessing: Preprocessing,
) -> Shot:
    """Decode a photo and bring its mask to the network's input.

    Raises:
        ImageError: the photo or its mask cannot be read, or they differ in size.
    """
    photo = read_image(record.path)
    path = masks.find(record.path) if masks else None
    mask = None
    if path is not None:
        drawn = read_mask(path, value=mask_value)
        if drawn.shape != (photo.height, photo.width):
            raise ImageError(
                f"{path} is {drawn.shape[1]}x{drawn.shape[0]} px and its photo {photo.width}x"
                f"{photo.height}: a mask has the size of its photo"
            )
        mask = preprocessing.mask(drawn)
    return Shot(record, record.path.name, photo, mask)


def open_masks(source: str | Path | None) -> MaskIndex | None:
    """Masks from a folder or a CSV, or none.

    Raises:
        DataError: there are none there.
    """
    if source is None:
        return None
    if not Path(source).exists():
        raise DataError(f"no masks at {source}: give a folder of masks or a CSV with path and mask")
    return MaskIndex.open(source)


def _record(path: Path, class_names: Sequence[str]) -> Record:
    folder = path.resolve().parent.name
    return Record(path, folder if folder in class_names else None)


def reported(
    data: Path, class_names: Sequence[str], split: str | None
) -> tuple[list[Record], tuple[str, ...]]:
    """The records that a report is about, and what the reader has to tell.

    A data set with splits is reported on by ``split``, by default its validation part; class folders
    without splits and plain folders of photos, whole.
    """
    if data.is_dir() and table_in(data) is None and not _has_folders(data):
        return gather([data], class_names), ()
    if data.is_file() and table_in(data) is None:
        return gather([data], class_names), ()
    dataset = read_dataset(data)
    wanted = split or ("valid" if any(r.split == "valid" for r in dataset.records) else None)
    records = [r for r in dataset.records if wanted is None or r.split == wanted]
    if not records:
        raise UsageError(f"{data} has no image in the split {wanted!r}")
    strange = sorted({r.label for r in records if r.label} - set(class_names))
    notices = dataset.notices
    if strange:
        notices += (
            f"classes that the classifier does not know, taken as unlabelled: {', '.join(strange)}",
        )
    return records, notices


def evenly(records: Sequence[Record], limit: int | None) -> list[Record]:
    """At most ``limit`` records, spread over the whole list.

    Raises:
        UsageError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} leaves nothing: use 1 or more")
    if limit is None or len(records) <= limit:
        return list(records)
    places = np.linspace(0, len(records) - 1, limit).round().astype(int)
    return [records[place] for place in places]


def one_a_class(records: Sequence[Record]) -> list[Record]:
    """The first record of each class."""
    return list({record.label: record for record in reversed(records)}.values())[::-1]


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() for entry in folder.iterdir())
