"""Memory kept from one tensor to the next, while networks run on a CPU.

The C library of most Linux systems (glibc) asks the kernel for each tensor of more than 32 MiB and
gives it back when it is freed, so that every layer pays for fresh, zeroed pages: a quarter of the
time of ConvNeXt-Tiny's forward of 16 images. While ``keeping_memory`` is entered it keeps what was
freed for the next tensor; afterwards its thresholds are those that its own adjustment ends at.

mallopt(3): https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from mitate.sharing import Together

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h's names for them
KEPT = {TRIM_THRESHOLD: 2**31 - 1, MMAP_THRESHOLD: 2**30}
USUAL = {TRIM_THRESHOLD: 2**26, MMAP_THRESHOLD: 2**25}  # where glibc's own adjustment ends
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


@contextmanager
def _kept() -> Iterator[None]:
    _tell(KEPT)
    try:
        yield
    finally:
        _tell(USUAL)


def _tell(thresholds: dict[int, int]) -> None:
    if library := _glibc():
        for threshold, value in thresholds.items():
            library.mallopt(threshold, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library; None where it is another one, or the user has chosen how it allocates."""
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in CHOSEN):
        return None
    return ctypes.CDLL(None)


keeping_memory = Together(_kept)  # nested, and in threads, until the last one leaves
