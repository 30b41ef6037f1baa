"""What a data set is once it is read: records, class names, and what the reader has to tell."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mitate.data.decoding import natural_key
from mitate.data.wording import some_of
from mitate.errors import UsageError

SPLITS = ("train", "valid", "test")

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Record:
    """One picture: where it is, what it shows, and on which side of the split it stands."""

    path: Path
    label: str | None
    mask: Path | None = None
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Records with naturally sorted class names, and notices in plain sentences.

    ``missing`` are the pictures that a table lists and that are not there.
    """

    root: Path
    records: tuple[Record, ...]
    class_names: tuple[str, ...]
    notices: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def split(self, name: str) -> "Dataset":
        """The records of one split; the class names are kept.

        Raises:
            UsageError: The name is none of train, valid and test.
        """
        if name not in SPLITS:
            raise UsageError(f"There is no split {name!r}: choose one of {', '.join(SPLITS)}.")
        kept = tuple(record for record in self.records if record.split == name)
        return replace(self, records=kept)

    def counts(self) -> dict[str | None, dict[str, int]]:
        """Images by split (None: not yet split) and class, every class in every split."""
        present = {record.split for record in self.records}
        table: dict[str | None, dict[str, int]] = {
            split: dict.fromkeys(self.class_names, 0)
            for split in (*SPLITS, None)
            if split in present
        }
        for record in self.records:
            if record.label is not None:
                table[record.split][record.label] += 1
        return table

    def with_records(self, records: Iterable[Record]) -> "Dataset":
        """The same data set with other records; the class names are theirs."""
        kept = tuple(records)
        return replace(self, records=kept, class_names=class_names_of(kept))

    def with_notices(self, *notices: str) -> "Dataset":
        """The same data set with more to tell."""
        return replace(self, notices=self.notices + notices)

    def name(self, path: Path) -> str:
        """How notices call a file: by its path below the root."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    def name_some(self, paths: Iterable[Path]) -> str:
        """Up to three files by name, and how many more there are."""
        return some_of([self.name(path) for path in paths])


def class_names_of(records: Iterable[Record]) -> tuple[str, ...]:
    """The labels in natural order."""
    labels = {record.label for record in records if record.label is not None}
    return tuple(sorted(labels, key=natural_key))


def split_of(name: str) -> str | None:
    """The split that a folder or a cell names (train, valid, val, validation, test), or None."""
    return _SPLIT_NAMES.get(name.strip().casefold())


def label_of(name: str) -> str:
    """A class name as it is compared: macOS writes Japanese names in another Unicode form."""
    return unicodedata.normalize("NFC", name.strip())


def locate(root: Path, cell: str) -> Path | None:
    """The file that a cell names, relative to the root, or None where there is none."""
    places = (os.path.join(root, spelling) for spelling in _spellings(cell))
    return next((Path(place) for place in places if os.path.isfile(place)), None)


def _spellings(cell: str) -> Iterator[str]:
    """As written, then as Windows and macOS would have written it."""
    yield cell
    path = cell.strip().replace("\\", "/")
    yield path
    yield unicodedata.normalize("NFC", path)
    yield unicodedata.normalize("NFD", path)
