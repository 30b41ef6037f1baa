"""Which photos a classifier was trained on, known by their content, whatever they are called."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from mitate.data.copies import sha256_of, size_of
from mitate.data.records import Dataset
from mitate.files import csv_bytes

TRAIN, VALID = "train", "valid"


@dataclass(frozen=True)
class SeenPhoto:
    """One photo of a training: its name in the data set, side, size in bytes and SHA-256."""

    path: str
    split: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Table:
    """A file of such photos, read when it is asked for.

    Attributes:
        places: where it may lie.
        sha256: of the file that is meant.
    """

    places: tuple[Path, ...]
    sha256: str


@dataclass(frozen=True)
class Seen:
    """The photos of a training, and of those that it went on from.

    Attributes:
        source: the photos, or the file that holds them.
        whole: whether it was trained on no other photos; of a training that went on from one whose
            photos are not known, that cannot be told.
    """

    source: Table | tuple[SeenPhoto, ...]
    whole: bool = True

    @classmethod
    def of(cls, dataset: Dataset, earlier: "Seen | None" = None) -> "Seen":
        """The photos of a data set with splits, after those of an earlier training."""
        before = earlier.photos if earlier else ()
        photos = dict.fromkeys((*before, *_photos(dataset)))
        return cls(tuple(photos), earlier is None or earlier.is_known)

    @property
    def is_known(self) -> bool:
        """Whether all photos of the training are among ``photos``."""
        return self.whole and self._read is not None

    @property
    def photos(self) -> tuple[SeenPhoto, ...]:
        """All that are known."""
        return self._read or ()

    @cached_property
    def content(self) -> bytes:
        """The file that is written beside a classifier."""
        return csv_bytes([asdict(photo) for photo in self.photos], SeenPhoto.__annotations__)

    @property
    def digest(self) -> str:
        """The file's SHA-256."""
        return hashlib.sha256(self.content).hexdigest()

    def side_of(self, photo: Path) -> str | None:
        """``train`` or ``valid``, or None where training has not seen it.

        A photo that was on both sides was trained on.
        """
        return self._sides.get(sha256_of(photo) or "") if size_of(photo) in self._sizes else None

    @cached_property
    def _read(self) -> tuple[SeenPhoto, ...] | None:
        return _photos_in(self.source) if isinstance(self.source, Table) else self.source

    @cached_property
    def _sides(self) -> dict[str, str]:
        sides = {photo.sha256: photo.split for photo in self.photos}
        return sides | {photo.sha256: TRAIN for photo in self.photos if photo.split == TRAIN}

    @cached_property
    def _sizes(self) -> frozenset[int]:
        return frozenset(photo.bytes for photo in self.photos)


def _photos_in(table: Table) -> tuple[SeenPhoto, ...] | None:
    """None where the file is gone, or another, or none that this version reads."""
    try:
        contents = [place.read_bytes() for place in table.places if place.is_file()]
        meant = [one for one in contents if hashlib.sha256(one).hexdigest() == table.sha256]
        rows = csv.DictReader(io.StringIO(meant[0].decode("utf-8-sig"), newline=""))
        return tuple(map(_photo, rows))
    except (OSError, IndexError, KeyError, TypeError, ValueError, csv.Error):
        return None


def _photo(row: Mapping[str, str]) -> SeenPhoto:
    return SeenPhoto(row["path"], row["split"], int(row["bytes"]), row["sha256"])


def _photos(dataset: Dataset) -> Iterable[SeenPhoto]:
    for record in dataset.records:
        if record.split in (TRAIN, VALID) and (digest := sha256_of(record.path)):
            name = dataset.name(record.path)
            yield SeenPhoto(name, record.split, size_of(record.path), digest)
