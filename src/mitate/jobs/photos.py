"""Photos that a command was asked to explain: where they are, what is true of them."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from mitate.data import regions
from mitate.data.checking import readable
from mitate.data.dataset import read_dataset
from mitate.data.decoding import find_images, is_image, read_image, visible, walk
from mitate.data.masks import WITHOUT, Masks
from mitate.data.records import Dataset, Record, label_of
from mitate.data.seen import TRAIN, VALID, Seen
from mitate.data.tables import TABLE_SUFFIXES, table_in
from mitate.data.wording import counted
from mitate.errors import ImageError, UsageError
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing
from mitate.models.saved import SEEN

T = TypeVar("T")
UNKNOWN = (
    "Not all photos that the classifier was trained on are known, and some of those judged may be "
    f"among them: it, or the weights that it began with, has no {SEEN} of its training."
)


@dataclass(frozen=True)
class Shot:
    """One photo to explain, decoded, with the true region and the object around it."""

    record: Record
    name: str
    photo: Image.Image
    mask: np.ndarray | None = None
    around: np.ndarray | None = None


@dataclass(frozen=True)
class Gathered:
    """Photos that were found.

    Attributes:
        records: those that were asked for.
        whole: all of them, of whatever split.
        notices: what the readers of data sets have to tell.
        missing: pictures that data sets list and that are not there.
    """

    records: list[Record]
    whole: list[Record]
    notices: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def gather(
    sources: Sequence[str | Path],
    class_names: Sequence[str],
    *,
    label: str | None = None,
    split: str | None = None,
) -> Gathered:
    """Records of images, folders and data sets (a CSV or a folder with index.csv).

    The true class is the CSV's, ``label`` where given, or the image's folder where that is a class.
    An image that does not exist is a record like any other: whoever opens it tells. One that
    several sources hold is taken once.

    Raises:
        DataError: a folder without pictures; UsageError: an unknown label, an address of the web or
        an empty choice.
    """
    if label is not None and list(class_names).count(label) != 1:
        known = ", ".join(class_names[:12])
        many = "the name of several classes" if label in class_names else "no class"
        raise UsageError(f"{label!r} is {many} of this classifier; its classes: {known}")
    records: dict[str, Record] = {}
    read = [_read(place, class_names, split) for place in map(Path, sources)]
    for dataset in read:
        for record in dataset.records:
            photo = os.path.realpath(record.path)
            if photo not in records or _told(record) > _told(records[photo]):
                records[photo] = record
    named = [r if label is None else replace(r, label=label) for r in records.values()]
    chosen = [record for record in named if split is None or record.split == split]
    if not chosen:
        where = f" in the split {split}: give a data set that has one" if split else ": name some"
        raise UsageError(f"there is no photo to explain{where}")
    notices, missing = (
        tuple(line for dataset in read for line in getattr(dataset, told))
        for told in ("notices", "missing")
    )
    return Gathered(chosen, named, notices, missing)


def _told(record: Record) -> int:
    """How much is known of a photo."""
    return (record.label is not None) + (record.split is not None)


def folder_of(data: Path) -> Path:
    """The folder that the names of a data set's photos start from."""
    return data if data.is_dir() else data.parent


def with_known_labels(records: Sequence[Record], class_names: Sequence[str]) -> list[Record]:
    """The records, without a label where that names no class, or more than one."""
    times = Counter(class_names)
    return [r if times[r.label or ""] == 1 else replace(r, label=None) for r in records]


def shown_names(paths: Sequence[Path]) -> list[str]:
    """What photos are called: by file; by folder and file where files share a name; or by path."""
    spelt = [_spelt(path) for path in paths]
    different = len(set(spelt))
    for parts in (1, 2):
        names = ["/".join(Path(path).parts[-parts:]) for path in spelt]
        if len(set(names)) == different:
            return names
    return spelt


def _spelt(path: Path) -> str:
    """A path in words; half characters of odd names as their numbers."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def names_from(root: Path | None, paths: Sequence[Path]) -> list[str]:
    """What photos of a data set are called, whichever are chosen.

    Their paths from its folder, ``../`` where they lie outside of it.
    """
    if root is None:
        return shown_names(paths)
    return [_spelt(_from(root, path)) for path in paths]


def _from(root: Path, path: Path) -> Path:
    try:
        return Path(os.path.relpath(path, root))
    except ValueError:  # on another drive
        return path


def open_shot(
    record: Record,
    name: str,
    masks: Masks | None = None,
    *,
    mask_value: int | None = None,
    object_value: int | None = None,
    preprocessing: Preprocessing,
    failures: list[str],
) -> Shot:
    """Decode a photo and bring its mask to the network's input.

    The object is what has ``object_value``, and the region on it. A mask that cannot be read, or
    has another size than its photo, goes to ``failures``, and the photo is taken without it.

    Raises:
        ImageError: the photo cannot be read.
    """
    photo = read_image(record.path)
    try:
        drawn = masks.read(record.path, photo.size, value=mask_value) if masks else None
        if masks is None or drawn is None:
            return Shot(record, name, photo)
        rest = None
        if object_value is not None:
            rest = masks.read(record.path, photo.size, value=object_value)
    except ImageError as exc:
        failures.append(f"{exc}{WITHOUT}")
        return Shot(record, name, photo)
    region, whole = preprocessing.mask(drawn), None
    if object_value is not None:
        whole = None if rest is None else preprocessing.mask(np.maximum(rest, drawn))
    return Shot(record, name, photo, region, whole)


def open_shots(
    named: Iterable[tuple[Record, str]],
    masks: Masks | None = None,
    *,
    mask_value: int | None = None,
    preprocessing: Preprocessing,
    failures: list[str],
) -> Iterator[Shot | None]:
    """Decode photos one after another; None stands for one that ``failures`` tells of."""
    for record, name in named:
        try:
            yield open_shot(
                record,
                name,
                masks,
                mask_value=mask_value,
                preprocessing=preprocessing,
                failures=failures,
            )
        except ImageError as exc:
            failures.append(str(exc))
            yield None


def open_masks(source: str | Path | None, photos: str | Path | Sequence[Record]) -> Masks | None:
    """Masks or annotations of a data set's photos, or none.

    Args:
        source: where they are.
        photos: the data set, all of it, so that a mask which may be of several photos is seen.

    Raises:
        DataError: there are none there.
    """
    if source is None:
        return None
    if isinstance(photos, str | Path):
        place = Path(photos)
        whole = read_dataset(place, labelled=False).records if _is_dataset(place) else ()
        photos = whole or gather([place], ()).records
    return regions.open_masks(source, [record.path for record in photos])


def reported(
    data: Path, classifier: Classifier, split: str | None = None
) -> tuple[list[Record], tuple[str, ...]]:
    """The records that a report is about, and what the reader has to tell.

    Of a data set with splits these are ``split``, by default its validation part. Of one without,
    these are the photos that the classifier was not trained on, which their content tells; plain
    folders of photos are taken whole.

    Raises:
        UsageError: no image in the split.
    """
    if not _is_dataset(data):
        photos = gather([data], classifier.class_names, split=split).records
        return photos, learnt_from(photos, classifier)
    dataset = read_dataset(data, labelled=False)
    notices = dataset.notices + tuple(strange(dataset.class_names, classifier.class_names))
    if any(record.split for record in dataset.records):
        wanted = split or ("valid" if dataset.split("valid").records else None)
        records = [r for r in dataset.records if wanted in (None, r.split)]
        notices += learnt_from(records, classifier) if wanted != "train" else ()
    elif split is None:
        records, found = _set_aside(dataset.records, classifier)
        notices += found
    else:
        records = []
    if not records:
        raise UsageError(f"{data} has no image in the split {split}: leave --split out")
    return records, notices


def evenly(records: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` of the records, spread over the whole list.

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
    first: dict[str | None, Record] = {}
    for record in records:
        first.setdefault(record.label, record)
    return list(first.values())


def _read(source: Path, class_names: Sequence[str], split: str | None) -> Dataset:
    """A source of photos, whichever it is."""
    if address := re.match(r"(https?):/+(.*)", str(source)):
        raise UsageError(
            f"{address[1]}://{address[2]} is an address of the web: download it, and give its path"
        )
    if _is_table(source) or (split and os.path.isdir(source)):
        return read_dataset(source, labelled=False)
    found = find_images(source) if os.path.isdir(source) else (source,)
    records = tuple(_record(path, source, class_names) for path in found)
    return Dataset(source, records, tuple(class_names))


def _record(path: Path, source: Path, class_names: Sequence[str]) -> Record:
    """A photo with the class that its folder is called as, or one above it within the source."""
    whole, top = path.resolve(), source.resolve()
    above = [whole.parent, *(place for place in whole.parents[1:] if place.is_relative_to(top))]
    folders = (label_of(place.name) for place in above)
    return Record(path, next((folder for folder in folders if folder in class_names), None))


def _is_table(source: Path) -> bool:
    if os.path.isdir(source):  # which a path without rights, or too long for one, is not
        return table_in(source) is not None
    return source.suffix.lower() in TABLE_SUFFIXES


def _is_dataset(data: Path) -> bool:
    """Whether it is a CSV or a folder of folders with pictures, rather than photos."""
    if _is_table(data):
        return True
    folders = [place for place, folder in visible(data) if folder] if data.is_dir() else []
    return any(is_image(file.name) for folder in folders for file in walk(folder, [data]))


def strange(labels: Iterable[str | None], class_names: Sequence[str]) -> Iterator[str]:
    """What is to be told of labels that are no class of a classifier."""
    unknown = sorted({label for label in labels if label is not None} - set(class_names))
    if unknown:
        yield (
            "classes that the classifier does not know, taken as unlabelled: "
            f"{', '.join(unknown[:12])}"
        )


def _set_aside(
    records: Sequence[Record], classifier: Classifier
) -> tuple[list[Record], tuple[str, ...]]:
    """The photos that the classifier was not trained on, or all where there is no other."""
    seen = classifier.seen
    if seen is None:
        return list(records), ()
    unknown = _not_known(seen)
    sides = [seen.side_of(record.path) for record in records]
    if TRAIN not in sides:
        return list(records), unknown
    kept = [record for record, side in zip(records, sides, strict=True) if side != TRAIN]
    strangers = (record.path for record, side in zip(records, sides, strict=True) if side is None)
    # A training leaves out what it cannot read: such photos are not new to the classifier.
    new = any(readable(path) for path in strangers)
    if not new and VALID not in sides:
        return list(records), ("The classifier was trained on all of the photos judged.",)
    why = "that the classifier was not trained on" if new else "that training set aside"
    return kept, (
        f"Taken from {counted(len(kept), 'photo')} {why}, not from the {len(records)} of the whole "
        "data set.",
        *unknown,
    )


def learnt_from(records: Sequence[Record], classifier: Classifier) -> tuple[str, ...]:
    """What is to be told of photos among those judged that a classifier was trained on."""
    seen = classifier.seen
    if seen is None:
        return ()
    unknown = _not_known(seen)
    learnt = sum(seen.side_of(record.path) == TRAIN for record in records)
    if not learnt:
        return unknown
    name = classifier.folder or classifier.provenance.get("weights") or classifier.reference
    told = (
        f"{learnt} of {counted(len(records), 'photo')} {'was' if learnt == 1 else 'were'} in the "
        f"training of {name}, which flatters it: judge photos that it did not learn from, such as "
        "those of one split column for all classifiers."
    )
    return (told, *unknown)


def _not_known(seen: Seen) -> tuple[str, ...]:
    return () if seen.is_known else (UNKNOWN,)
