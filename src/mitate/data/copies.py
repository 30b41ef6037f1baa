"""Files with the same content, which must not stand on two sides of a split."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from mitate.files import sha256


def content_keys(paths: Sequence[Path]) -> list[str | None]:
    """The SHA-256 of every file that has a copy among the others; None for the rest."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        by_size[size_of(path)].append(index)
    digests: list[str | None] = [None] * len(paths)
    for size, same_size in by_size.items():
        if size > 0 and len(same_size) > 1:  # only files of one size can be copies
            for index in same_size:
                digests[index] = sha256_of(paths[index])
    return _shared_only(digests)


def _shared_only(digests: Sequence[str | None]) -> list[str | None]:
    times: dict[str | None, int] = defaultdict(int)
    for digest in digests:
        times[digest] += 1
    return [digest if times[digest] > 1 else None for digest in digests]


def size_of(path: Path) -> int:
    """The size of a file in bytes; 0 where it cannot be told."""
    try:
        return os.path.getsize(path)
    except OSError:  # gone or unreadable: whoever decodes it tells
        return 0


def sha256_of(path: Path) -> str | None:
    """The SHA-256 of a file's bytes, in hexadecimal; None where it cannot be read."""
    try:
        return sha256(path)
    except OSError:
        return None
