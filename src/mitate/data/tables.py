"""CSV files that list pictures: the cells, and the data set that they tell."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mitate.data.records import Dataset, Record, class_names_of, label_of, locate, split_of
from mitate.data.wording import counted, some_of
from mitate.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Row:
    """The cells of one line, by lower-case column name."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


@dataclass(frozen=True)
class Table:
    """A CSV file as it was read."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def table_in(source: Path) -> Path | None:
    """The CSV that a source is or, for a folder, the index.csv that it holds.

    Raises:
        DataError: The source is another kind of file.
    """
    if source.is_dir():
        return source / "index.csv" if (source / "index.csv").is_file() else None
    if source.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{source} is neither a folder nor a CSV file: give one of them.")
    return source


def read_table(path: Path, required: Sequence[str]) -> Table:
    """Reads a CSV (UTF-8; comma, semicolon or tab) with at least the required columns.

    Raises:
        DataError: The file cannot be read, or a required column is missing.
    """
    header, *lines = _read_lines(path)
    columns = tuple(_column(cell) for cell in header[1])
    _check_columns(path, columns, required)
    rows = tuple(_row(path, columns, number, cells) for number, cells in lines)
    if not rows:
        raise DataError(f"{path} has a header and no rows: add one line for each picture.")
    return Table(path, columns, rows)


def read_listed(path: Path, *, group: str | None = None, labelled: bool = True) -> Dataset:
    """Reads the data set that a CSV tells; paths are relative to the CSV's folder.

    Without a column label, which ``labelled`` asks for, nothing is known of the classes.

    Raises:
        DataError: The table cannot be used as it is.
    """
    table = read_table(path, ("path", "label") if labelled else ("path",))
    column = _group_column(table, group)
    notices: list[str] = []
    rows, missing = _present_rows(table, notices)
    masks = _masks(table, rows, notices)
    records = tuple(
        Record(
            image,
            label_of(row["label"]) or None,
            masks.get(row.line),
            _split(table, row),
            (row[column].strip() or None) if column else None,
        )
        for row, image in rows
    )
    _check_groups(path, records)
    return Dataset(path.parent, records, class_names_of(records), tuple(notices), missing)


def _read_lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            told = re.fullmatch(r"sep=(.)\s*", first)  # by Excel, in a line before the header
            if told is None:
                file.seek(0)
            delimiter = told[1] if told else max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=delimiter)
            filled = (cells for cells in reader if any(map(str.strip, cells)))
            lines = [((told is not None) + reader.line_num, cells) for cells in filled]
    except OSError as exc:
        raise DataError(f"{path} cannot be read ({exc.strerror}): check the path.") from exc
    except UnicodeDecodeError as exc:
        raise DataError(f"{path} is not UTF-8 text: save it again as 'CSV UTF-8'.") from exc
    except csv.Error as exc:
        raise DataError(f"{path} is not a CSV file ({exc}): save it again as CSV.") from exc
    if not lines:
        raise DataError(f"{path} is empty: a data set's CSV has the columns path and label.")
    return lines


def _column(name: str) -> str:
    return name.strip().casefold()


def _check_columns(path: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    missing = [column for column in required if column not in columns]
    if missing:
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)}; it has"
            f" {', '.join(columns)}: its first line has to name {' and '.join(required)}."
        )
    twice = [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]
    if twice:
        raise DataError(f"{path} has the column {twice[0]} twice: keep one of them.")


def _row(path: Path, columns: tuple[str, ...], line: int, cells: list[str]) -> Row:
    if any(cells[len(columns) :]):
        raise DataError(
            f"{path} line {line} has {len(cells)} cells and the header {len(columns)}:"
            " put cells that hold a comma in double quotes."
        )
    return Row(line, dict(zip(columns, cells, strict=False)))


def _group_column(table: Table, group: str | None) -> str | None:
    if group is None:
        return None
    if _column(group) not in table.columns:
        raise DataError(
            f"{table.path} has no column {group} to group by;"
            f" choose one of {', '.join(table.columns)}."
        )
    return _column(group)


def _present_rows(
    table: Table, notices: list[str]
) -> tuple[list[tuple[Row, Path]], tuple[str, ...]]:
    """The rows whose picture is there, each picture once, and the pictures that are not there."""
    root = table.path.parent
    found = [(row, locate(root, row["path"])) for row in table.rows]
    missing = tuple(row["path"] or f"line {row.line}" for row, image in found if image is None)
    if len(missing) == len(found):
        raise DataError(
            f"None of the {counted(len(missing), 'image')} in {table.path} is there, such as"
            f" {missing[0]}: paths are relative to the folder of the CSV."
        )
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        notices.append(
            f"{counted(len(missing), 'image')} listed in {table.path.name} cannot be found and"
            f" {verb} left out: {some_of(missing)}."
        )
    there = [(row, image) for row, image in found if image is not None]
    return _unique(there, notices), missing


def _unique(rows: list[tuple[Row, Path]], notices: list[str]) -> list[tuple[Row, Path]]:
    first: dict[Path, tuple[Row, Path]] = {}
    twice = [row for row, image in rows if first.setdefault(image, (row, image))[0] is not row]
    if twice:
        names = some_of([f"{row['path']} (line {row.line})" for row in twice])
        notices.append(f"Pictures listed before are left out, whatever their label: {names}.")
    pairs = ((row, first[image][0]) for row, image in rows)
    apart = [
        f"{row['path']} is {old['label']} (line {old.line}) and {row['label']} (line {row.line})"
        for row, old in pairs
        if row["label"] != old["label"]
    ]
    if apart:
        notices.append(
            f"{counted(len(apart), 'line')} with another label than before, of which the first "
            f"counts: {some_of(apart)}. Correct them."
        )
    return list(first.values())


def _masks(table: Table, rows: list[tuple[Row, Path]], notices: list[str]) -> dict[int, Path]:
    root = table.path.parent
    listed = {row.line: row["mask"] for row, _ in rows if row["mask"].strip()}
    found = {line: locate(root, cell) for line, cell in listed.items()}
    missing = [listed[line] for line, mask in found.items() if mask is None]
    if missing:
        notices.append(
            f"{counted(len(missing), 'mask')} listed in {table.path.name} cannot be found; their"
            f" images are used without: {some_of(missing)}."
        )
    return {line: mask for line, mask in found.items() if mask is not None}


def _split(table: Table, row: Row) -> str | None:
    cell = row["split"]
    if not cell.strip():
        return None
    split = split_of(cell)
    if split is None:
        raise DataError(
            f"{table.path} line {row.line} has the split {cell!r}: write train, valid or test,"
            " or leave it empty to have the image split by mitate."
        )
    return split


def _check_groups(path: Path, records: Sequence[Record]) -> None:
    sides: dict[str, set[str]] = {}
    for record in records:
        if record.group is not None and record.split is not None:
            sides.setdefault(record.group, set()).add(record.split)
    torn = [f"{group} ({', '.join(sorted(on))})" for group, on in sides.items() if len(on) > 1]
    if torn:
        raise DataError(
            f"{path} tears {counted(len(torn), 'group')} apart between splits: {some_of(torn)}."
            " Give all images of a group one split, or leave the split column out."
        )
