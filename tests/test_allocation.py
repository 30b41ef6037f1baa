"""Memory kept between tensors, and the C library left as it was."""

from threading import Thread

import pytest

from mitate import allocation
from mitate.allocation import KEPT, USUAL, keeping_memory


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
