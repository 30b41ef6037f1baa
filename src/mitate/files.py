"""Files: written whole or not at all, with the rights of any new file; where; and known again."""

import csv
import errno
import hashlib
import io
import os
import signal
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

UNREADABLE = (  # what reading a damaged .npz raises, or one that is none
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Give a place to write to beside ``path``; what is there in the end becomes ``path``."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until several files, and what is known of them, are written.

    Only where Ctrl-C raises ``KeyboardInterrupt``, as Python's own handler does, and in the main
    thread, which alone is interrupted by it.
    """
    before = signal.getsignal(signal.SIGINT)
    if (
        before is not signal.default_int_handler
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    waiting: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all."""
    with unfinished(path) as part:
        part.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file whole or not at all; half characters of odd file names are spelt out."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path | None:
    """Write rows of the same columns, as spreadsheets read them; without rows there is no file."""
    if not rows:
        path.unlink(missing_ok=True)
        return None
    return write_bytes(path, csv_bytes(rows, rows[0]))


def csv_bytes(rows: Sequence[Mapping[str, object]], columns: Iterable[str]) -> bytes:
    """Rows of these columns as a CSV; half characters of odd file names are spelt out."""
    with io.StringIO(newline="") as table:
        writer = csv.DictWriter(table, list(columns))
        writer.writeheader()
        writer.writerows(rows)
        return table.getvalue().encode("utf-8-sig", "backslashreplace")


def check_folder(folder: Path) -> None:
    """Refuse a folder that is a file, or where nothing may be written; it need not be there yet.

    So that this is told before the work, not after hours of it.

    Raises:
        OSError: of the kind that writing there would raise.
    """
    there = next((p for p in (folder, *folder.parents) if os.path.lexists(p)), folder)
    if not there.is_dir():
        raise _error(errno.ENOTDIR, there)
    if not os.access(there, os.W_OK | os.X_OK):
        raise _error(errno.EACCES, there)
    try:  # what rights say is not all: a folder of the system's takes nothing from anybody
        os.rmdir(tempfile.mkdtemp(prefix=".", dir=there))
    except OSError as exc:
        raise _error(exc.errno or errno.EACCES, there) from exc


def _error(code: int, place: Path) -> OSError:
    return OSError(code, os.strerror(code), str(place))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
