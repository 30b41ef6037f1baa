"""What an earlier run left in the folder of an explanation."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from mitate.data.made import NUMBER, SHEET, is_made, is_sheet, sheet_name
from mitate.errors import UsageError
from mitate.explain.methods import METHODS

TABLES = ("predictions.csv", "predictions.json", "energy.csv")


def maps_name(method: str, number: int) -> str:
    """The name of a file of maps, in the folder maps."""
    return f"maps/{method}-{number:03}.npz"


def check_apart(photos: Collection[Path], folder: Path) -> None:
    """Refuse to write results over photos: those to be explained, and others that lie there.

    Raises:
        UsageError: one of them lies where results do, and is named as they are.
    """
    sheets = [path for path in _inside(folder) if SHEET.fullmatch(path.name) and path.is_file()]
    taken = {path.resolve() for path in (*_results(folder), *sheets)}
    coming = {sheet_name(number) for number in range(1, len(photos) + 1)}
    others = [path for path in sheets if path.name in coming and not is_sheet(path)]
    in_place = [photo for photo in photos if photo.resolve() in taken] + others
    if in_place:
        raise UsageError(
            f"{in_place[0]} has the name and place of a result, and would be written over: choose "
            "another folder with -o, or move it away"
        )


def has_results(folder: Path) -> bool:
    """Whether an earlier run left any."""
    return any(path.is_file() for path in _results(folder))


def clear(folder: Path) -> list[str]:
    """Remove the results of an earlier run, and nothing else; give their names."""
    found = [path for path in _results(folder) if path.is_file()]
    for path in found:
        path.unlink()
    return [path.relative_to(folder).as_posix() for path in found]


def told(gone: Collection[str], folder: Path) -> Iterator[str]:
    """The line about results that were removed and not written again."""
    if gone:
        which = ", ".join(sorted(gone)[:3]) + (" …" if len(gone) > 3 else "")
        files = "1 file" if len(gone) == 1 else f"{len(gone)} files"
        yield f"removed {files} of an earlier run from {folder}: {which}"


def _results(folder: Path) -> Iterator[Path]:
    """Whatever is named exactly as results are; of pictures, those that mitate drew."""
    maps = re.compile(rf"({'|'.join(map(re.escape, METHODS))})-{NUMBER}\.npz")
    yield from (folder / name for name in TABLES)
    yield from (path for path in _inside(folder) if is_made(path, is_folder=False))
    yield from (path for path in _inside(folder / "maps") if maps.fullmatch(path.name))


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
