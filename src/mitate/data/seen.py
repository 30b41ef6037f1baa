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

SEEN = "photos.csv"
TRAIN, VALID = "train", "valid"


@dataclass(frozen=True)
class SeenPhoto:
    """One photo of a training: its name in the data set, side, size in bytes and SHA-256."""

    path: str
    split: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Seen:
    """The photos of a training, and of those that it went on from."""

    photos: tuple[SeenPhoto, ...]

    @classmethod
    def of(cls, dataset: Dataset, earlier: "Seen | None" = None) -> "Seen":
        """The photos of a data set with splits, after those of an earlier training."""
        return cls((*(earlier.photos if earlier else ()), *_photos(dataset)))

    @classmethod
    def read(cls, table: Path, digest: str) -> "Seen | None":
        """What was written; None where it is gone, or another file than the one of this SHA-256."""
        try:
            content = table.read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                return None
            rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
            return cls(tuple(map(_photo, rows)))
        except (OSError, KeyError, TypeError, ValueError):
            return None

    @cached_property
    def content(self) -> bytes:
        """The file that is written beside a classifier."""
        return csv_bytes([asdict(photo) for photo in self.photos])

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
    def _sides(self) -> dict[str, str]:
        sides = {photo.sha256: photo.split for photo in self.photos}
        return sides | {photo.sha256: TRAIN for photo in self.photos if photo.split == TRAIN}

    @cached_property
    def _sizes(self) -> frozenset[int]:
        return frozenset(photo.bytes for photo in self.photos)


def _photo(row: Mapping[str, str]) -> SeenPhoto:
    return SeenPhoto(row["path"], row["split"], int(row["bytes"]), row["sha256"])


def _photos(dataset: Dataset) -> Iterable[SeenPhoto]:
    for record in dataset.records:
        if record.split in (TRAIN, VALID) and (digest := sha256_of(record.path)):
            name = dataset.name(record.path)
            yield SeenPhoto(name, record.split, size_of(record.path), digest)
