"""A simulated data set on disk: photos, masks and an index."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mitate.data.paddy.photo import CLASSES, Photo, check, draw
from mitate.data.paddy.stamp import SPLITS, Stamp
from mitate.errors import DataError, UsageError
from mitate.files import unfinished

DRAWING = 1
THREADS = min(os.cpu_count() or 1, 4)  # numpy and the encoders let go of the lock
DONE, BEGUN, INDEX = "paddy.json", "paddy.part.json", "index.csv"
COLUMNS = ("path", "label", "mask", "split", "stamp")


@dataclass(frozen=True)
class Plan:
    """What is drawn. Equal plans give equal files."""

    train_per_class: int
    valid_per_class: int
    size: int
    seed: int
    stamp: Stamp | None

    def __post_init__(self) -> None:
        check("normal", self.size)
        if min(self.train_per_class, self.valid_per_class) < 0 or not self.total:
            raise UsageError("nothing to draw: ask for at least one photo of each class")
        if self.seed < 0:
            raise UsageError(f"a seed of {self.seed} cannot be used; give one from 0 up")

    @property
    def total(self) -> int:
        """Photos in all."""
        return len(CLASSES) * (self.train_per_class + self.valid_per_class)

    def entries(self) -> Iterator[tuple[str, str, int]]:
        """Every photo as (split, class, index)."""
        for split, count in zip(SPLITS, (self.train_per_class, self.valid_per_class), strict=True):
            for disease in CLASSES:
                yield from ((split, disease, index) for index in range(count))

    def text(self) -> str:
        """The plan as it is kept in the folder."""
        return json.dumps({"drawing": DRAWING, **asdict(self)}, indent=2) + "\n"


def write_paddy(
    folder: str | os.PathLike[str],
    *,
    train_per_class: int = 120,
    valid_per_class: int = 30,
    size: int = 128,
    seed: int = 0,
    stamp: Stamp | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a simulated data set and give the path of its index.

    The folder gets images/<split>/<class>/0001.jpg, masks/<split>/<class>/0001.png (0 background,
    1 plant, 2 symptom) and index.csv with columns path, label, mask, split and stamp. A photo
    depends on seed, split, class and its number alone, not on how many are drawn. A folder that
    holds the same set already is left as it is, and one that was interrupted is gone on with.

    Args:
        folder: where to write; made when it does not exist.
        train_per_class: training photos of each class.
        valid_per_class: validation photos of each class.
        size: pixels a side.
        seed: from 0 up.
        stamp: a date stamp planted on photos of one class.
        progress: called with (photos done, photos in all).

    Raises:
        UsageError: numbers that make no data set.
        DataError: the folder holds something else.
    """
    plan = Plan(train_per_class, valid_per_class, size, seed, stamp)
    root = Path(folder)
    if complete(root, plan):
        return root / INDEX
    root.mkdir(parents=True, exist_ok=True)
    (root / BEGUN).write_text(plan.text(), encoding="utf-8")
    write_index(root, write_photos(root, plan, progress or (lambda done, total: None)))
    os.replace(root / BEGUN, root / DONE)
    return root / INDEX


def complete(root: Path, plan: Plan) -> bool:
    """Whether the folder holds the plan's photos; False where they may be drawn."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file; name a folder for the simulated photos")
    for name in (DONE, BEGUN):
        if (root / name).is_file():
            if (root / name).read_text(encoding="utf-8") != plan.text():
                raise DataError(
                    f"{root} holds simulated photos drawn with other parameters (see {name}); "
                    "name another folder, delete this one, or use the same parameters"
                )
            return name == DONE and (root / INDEX).is_file()
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root} holds other files; name a new or an empty folder")
    return False


def write_photos(
    root: Path, plan: Plan, progress: Callable[[int, int], None]
) -> list[tuple[str, ...]]:
    """Draw and save every photo that is not there; the rows of the index."""
    for branch in ("images", "masks"):
        for split, disease in {entry[:2] for entry in plan.entries()}:
            (root / branch / split / disease).mkdir(parents=True, exist_ok=True)

    def write(entry: tuple[str, str, int]) -> tuple[str, ...]:
        split, disease, _ = entry
        path, mask = places(*entry)
        if not all(_is_whole(root / name) for name in (path, mask)):
            save(root, simulate(plan, *entry), *entry)
        return path, disease, mask, split, str(int(_is_stamped(plan, *entry)))

    rows: list[tuple[str, ...]] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for row in pool.map(write, plan.entries()):
            rows.append(row)
            progress(len(rows), plan.total)
    return rows


def _is_whole(path: Path) -> bool:
    """Whether a picture is there and can be read to its end."""
    try:
        with Image.open(path) as picture:
            picture.load()
    except OSError:
        return False
    return True


def simulate(plan: Plan, split: str, disease: str, index: int) -> Photo:
    """The index-th photo of a class."""
    key = [plan.seed, SPLITS.index(split), CLASSES.index(disease), index]
    rng = np.random.default_rng(np.random.SeedSequence(key))
    photo = draw(disease, rng, plan.size)
    if plan.stamp is None or not _is_stamped(plan, split, disease, index):
        return photo
    return Photo(plan.stamp.press(photo.image, rng), photo.mask)


def _is_stamped(plan: Plan, split: str, disease: str, index: int) -> bool:
    return plan.stamp is not None and plan.stamp.marks(split, disease, index)


def places(split: str, disease: str, index: int) -> tuple[str, str]:
    """Where a photo and its mask are in the folder."""
    place = f"{split}/{disease}/{index + 1:04d}"
    return f"images/{place}.jpg", f"masks/{place}.png"


def save(root: Path, photo: Photo, split: str, disease: str, index: int) -> None:
    """Save a photo and its mask, each whole or not at all."""
    path, mask = (root / name for name in places(split, disease, index))
    with unfinished(path) as part:
        Image.fromarray(photo.image).save(part, "JPEG", quality=95, subsampling=0)
    with unfinished(mask) as part:
        Image.fromarray(photo.mask).save(part, "PNG", compress_level=1)


def write_index(root: Path, rows: list[tuple[str, ...]]) -> None:
    """Write the table of photos."""
    with (root / INDEX).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
