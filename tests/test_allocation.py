"""Memory kept between tensors, and the C library left as it was."""

import platform
import subprocess
import sys
from threading import Thread

import pytest

from mitate import allocation
from mitate.allocation import KEPT, USUAL, keeping_memory
from mitate.cli import app

ASK = """
import ctypes
import mitate
from contextlib import nullcontext
from mitate.allocation import keeping_memory
block = ctypes.CDLL(None).malloc
block.restype, block.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
free = ctypes.CDLL(None).free
free.argtypes = [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
with {entered}():
    place = block(200_000_000)
    ctypes.memset(place, 1, 200_000_000)
    before = resident()
    free(place)
    print(before - resident())
"""


class Library:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def mallopt(self, threshold: int, value: int) -> int:
        self.told.append((threshold, value))
        return 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(allocation, "_glibc", lambda: made)
    return made


def test_kept_while_entered_and_usual_afterwards(library: Library) -> None:
    with keeping_memory():
        assert library.told == list(KEPT.items())
    assert library.told == [*KEPT.items(), *USUAL.items()]


def test_the_last_to_leave_restores(library: Library) -> None:
    def leave() -> None:
        with keeping_memory():
            pass

    with keeping_memory():
        with pytest.raises(KeyError), keeping_memory():
            raise KeyError
        thread = Thread(target=leave)
        thread.start()
        thread.join()
        assert library.told == list(KEPT.items())
    assert library.told == [*KEPT.items(), *USUAL.items()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
@pytest.mark.parametrize(("entered", "kept"), [("nullcontext", False), ("keeping_memory", True)])
def test_freed_memory_of_a_process(entered: str, kept: bool) -> None:
    command = [sys.executable, "-c", ASK.format(entered=entered)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 100_000_000) is kept


def test_the_program_keeps_its_own(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> int:
        with keeping_memory():
            pass
        assert library.told == list(KEPT.items())
        return 0

    monkeypatch.setattr(app, "run", run)
    monkeypatch.setattr(app, "be_patient", lambda: None)
    with pytest.raises(SystemExit):
        app.main()


@pytest.mark.parametrize("name", allocation.CHOSEN)
def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in allocation.CHOSEN:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "1")
    assert allocation._glibc.__wrapped__() is None


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation.platform, "libc_ver", lambda: ("", ""))
    assert allocation._glibc.__wrapped__() is None
    with keeping_memory():
        pass
