"""Every picture decoded once, before the long work starts."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mitate.data.decoding import read_image
from mitate.data.records import Dataset
from mitate.data.wording import counted, some_of
from mitate.errors import DataError, ImageError

# Few threads, since each may hold a picture of full size; short batches, so that an
# interruption does not wait for the rest of the data set.
_THREADS = min(4, os.cpu_count() or 1)
_BATCH = 64


def check_dataset(
    dataset: Dataset, *, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """Decodes every image once and leaves out the broken ones, which the notices tell.

    Args:
        dataset: What `read_dataset` gave.
        progress: Called with the number of images done and of all images.

    Raises:
        DataError: No image can be read.
    """
    broken: dict[Path, str] = {}
    paths = [record.path for record in dataset.records]
    for done, (path, fault) in enumerate(_faults(paths), 1):
        if fault is not None:
            broken[path] = fault
        if progress is not None:
            progress(done, len(paths))
    return _without(dataset, broken)


def readable(path: Path) -> bool:
    """Whether an image can be decoded."""
    return _fault(path) is None


def _faults(paths: Sequence[Path]) -> Iterator[tuple[Path, str | None]]:
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            yield from zip(batch, pool.map(_fault, batch), strict=True)


def _fault(path: Path) -> str | None:
    try:
        read_image(path)
    except ImageError as error:
        return str(error)
    return None


def _without(dataset: Dataset, broken: dict[Path, str]) -> Dataset:
    if not broken:
        return dataset
    if len(broken) == len(dataset):
        raise DataError(f"None of the images of {dataset.root} can be read: {_first(broken)}")
    checked = dataset.with_records(r for r in dataset.records if r.path not in broken)
    notices = [
        f"{counted(len(broken), 'image')} cannot be read, left out:"
        f" {dataset.name_some(broken)}. The first: {_first(broken)}"
    ]
    gone = [name for name in dataset.class_names if name not in checked.class_names]
    if gone:
        notices.append(f"Classes left without a readable image are left out: {some_of(gone)}.")
    return checked.with_notices(*notices)


def _first(broken: dict[Path, str]) -> str:
    return next(iter(broken.values()))
