from hashlib import sha256
from pathlib import Path

import pytest

from mitate.data.copies import content_keys


def write(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / str(i) for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_copies_share_a_key(tmp_path: Path) -> None:
    paths = write(tmp_path, b"aa", b"bb", b"aa", b"ccc", b"")
    key = sha256(b"aa").hexdigest()
    assert content_keys(paths) == [key, None, key, None, None]


def test_empty_and_missing_files_are_no_copies(tmp_path: Path) -> None:
    assert content_keys([*write(tmp_path, b"", b""), tmp_path / "gone"]) == [None] * 3


def test_files_of_a_size_of_their_own_are_not_read(tmp_path: Path, monkeypatch) -> None:
    paths = write(tmp_path, b"a", b"bb", b"ccc")
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("read"))
    assert content_keys(paths) == [None] * 3


def test_unreadable_files_are_no_copies(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    paths = write(tmp_path, b"a", b"a")
    monkeypatch.setattr(Path, "open", refuse)
    assert content_keys(paths) == [None, None]
