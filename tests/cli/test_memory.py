"""The program keeps what it has freed; the library leaves its host's memory alone."""

import platform
import subprocess
import sys

import pytest

ASK = """
import ctypes, sys
{call}
block = ctypes.CDLL(None).malloc
block.restype, block.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
free = ctypes.CDLL(None).free
free.argtypes = [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
place = block(200_000_000)
ctypes.memset(place, 1, 200_000_000)
before = resident()
free(place)
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
@pytest.mark.parametrize(
    ("call", "kept"),
    [
        ("", False),
        ("import mitate", False),
        ("from mitate.cli.memory import keep_freed_memory; keep_freed_memory()", True),
    ],
)
def test_freed_memory(call, kept):
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(call=call)], capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) < 100_000_000) is kept
