"""Folders of class folders, with or without train, valid and test folders above them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mitate.data.decoding import is_image, visible, walk
from mitate.data.made import is_made
from mitate.data.records import Dataset, Record, class_names_of, label_of, split_of
from mitate.data.wording import counted, some_of
from mitate.errors import DataError

# Files that systems and tools leave everywhere; nobody takes them for pictures.
_USUAL_LITTER = {"thumbs.db", "desktop.ini"}
# Pictures by their endings, of kinds that are not read.
PICTURES = {".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".dng", ".cr2", ".nef", ".arw"}


@dataclass
class Findings:
    """What a walk over the folders met."""

    records: list[Record] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    loose: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    made: list[str] = field(default_factory=list)


def read_folders(root: Path) -> Dataset:
    """Reads a folder of class folders; no picture is decoded.

    Raises:
        DataError: There are no class folders, or no pictures in them.
    """
    homes, ignored = _homes(root)
    findings = Findings()
    for split, home in homes:
        _read_home(root, split, home, findings)
    if not findings.records:
        raise DataError(_why_nothing(root, findings))
    records = tuple(findings.records)
    _check_split_names(root, records)
    notices = _notices(root, findings, ignored)
    return Dataset(root, records, class_names_of(records), tuple(notices))


def _homes(root: Path) -> tuple[list[tuple[str | None, Path]], list[Path]]:
    """The folders that hold class folders with their splits, and the folders beside them."""
    folders = [path for path, is_folder in visible(root) if is_folder]
    splits = [(split_of(path.name), path) for path in folders if _is_split_folder(path)]
    beside = [path for path in folders if path not in {home for _, home in splits}]
    # Without a train folder, one of that name among others is more likely a class.
    if splits and (not beside or any(split == "train" for split, _ in splits)):
        return list(splits), beside
    return [(None, root)], []


def _is_split_folder(path: Path) -> bool:
    if split_of(path.name) is None:
        return False
    inside = visible(path)
    return any(is_folder for _, is_folder in inside) and not any(
        is_image(file.name) for file, is_folder in inside if not is_folder
    )


def _read_home(root: Path, split: str | None, home: Path, findings: Findings) -> None:
    for path, is_folder in visible(home):
        if is_folder:
            _read_class(root, split, path, findings)
        elif is_image(path.name):
            findings.loose.append(path)


def _read_class(root: Path, split: str | None, folder: Path, findings: Findings) -> None:
    if is_made(folder, is_folder=True):
        findings.made.append(str(folder.relative_to(root)))
        return
    label = label_of(folder.name)
    before = len(findings.records)
    for path in walk(folder, seen=(root, folder.parent)):
        if is_image(path.name):
            findings.records.append(Record(path, label, split=split))
        elif path.name.lower() not in _USUAL_LITTER:
            findings.others[path.suffix.lower() or path.name] += 1
    if len(findings.records) == before:
        findings.empty.append(str(folder.relative_to(root)))


def _why_nothing(root: Path, findings: Findings) -> str:
    if findings.loose:
        return (
            f"{root} holds pictures but no class folders: put the pictures of each class into a"
            " folder named after it, or give a CSV with the columns path and label."
        )
    if findings.empty:
        return f"The class folders of {root} hold no pictures: {some_of(findings.empty)}."
    return f"{root} holds no class folders with pictures: check the path."


def _check_split_names(root: Path, records: Sequence[Record]) -> None:
    labels = class_names_of(records)
    if all(split_of(label) for label in labels):
        raise DataError(
            f"{root} has {some_of(labels)} with pictures directly in them: put class folders"
            " between, as in train/CLASS/picture.jpg."
        )


def _notices(root: Path, findings: Findings, ignored: Sequence[Path]) -> list[str]:
    notices = []
    if findings.empty:
        folders = counted(len(findings.empty), "class folder")
        notices.append(f"{folders} without pictures left out: {some_of(findings.empty)}.")
    if findings.loose:
        names = some_of([path.relative_to(root) for path in findings.loose])
        loose = counted(len(findings.loose), "picture")
        notices.append(f"{loose} outside of any class folder left out: {names}.")
    if findings.others:
        kinds = some_of([f"{kind} ({n:,})" for kind, n in findings.others.most_common()])
        files = counted(findings.others.total(), "file")
        way = "; save pictures as JPEG or PNG" if PICTURES & findings.others.keys() else ""
        notices.append(f"{files} of a kind that mitate does not read left out: {kinds}{way}.")
    if findings.made:
        folders = counted(len(findings.made), "folder")
        notices.append(f"{folders} that mitate made left out: {some_of(findings.made)}.")
    if ignored:
        names = some_of([path.name for path in ignored])
        notices.append(f"Folders beside the split folders are not read: {names}.")
    return notices
