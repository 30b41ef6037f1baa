"""Which photos a classifier was trained on, known by their content, whatever they are called."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from mitate.data.copies import sha256_of, size_of
from mitate.data.records import Dataset, Record
from mitate.files import write_csv

SEEN = "photos.csv"
SIDES = ("train", "valid")


@dataclass(frozen=True)
class Seen:
    """The photos of a training.

    Attributes:
        sides: the side of the split that each was on, by SHA-256.
        sizes: of all of them, in bytes: a photo of another size is none of them.
    """

    sides: dict[str, str] = field(default_factory=dict)
    sizes: frozenset[int] = frozenset()

    def side_of(self, photo: Path) -> str | None:
        """The side that a photo was on, or None where training has not seen it."""
        return self.sides.get(sha256_of(photo) or "") if size_of(photo) in self.sizes else None


def write_seen(folder: Path, dataset: Dataset) -> None:
    """Write the photos of a training beside the classifier."""
    rows = [_row(dataset, record) for record in dataset.records if record.split in SIDES]
    write_csv(folder / SEEN, [row for row in rows if row["sha256"]])


def read_seen(folder: Path | None) -> Seen | None:
    """What was written beside a classifier; None where nothing was, or it cannot be read."""
    table = None if folder is None else folder / SEEN
    if table is None or not table.is_file():
        return None
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        sides = {row["sha256"]: row["split"] for row in rows}
        return Seen(sides, frozenset(int(row["bytes"]) for row in rows))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _row(dataset: Dataset, record: Record) -> dict[str, str | int | None]:
    return {
        "path": dataset.name(record.path),
        "split": record.split,
        "bytes": size_of(record.path),
        "sha256": sha256_of(record.path),
    }
