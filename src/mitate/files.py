"""Writing files that appear whole or not at all, with the rights of any new file."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Give a place to write to beside ``path``; what is there in the end becomes ``path``."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all."""
    with unfinished(path) as part:
        part.write_bytes(content)
    return path


def write_text(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a text file whole or not at all; half characters of odd file names are spelt out."""
    return write_bytes(path, text.encode(encoding, "backslashreplace"))


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path | None:
    """Write rows of the same columns, as spreadsheets read them; without rows there is no file."""
    if not rows:
        path.unlink(missing_ok=True)
        return None
    with io.StringIO(newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return write_text(path, table.getvalue(), "utf-8-sig")
