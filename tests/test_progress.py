import pytest

from mitate import progress as module
from mitate.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand; standard error is no terminal under pytest."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def test_short_work_says_nothing(clock, capsys):
    with progress("drawing", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_long_work_is_told_every_ten_seconds_and_at_its_end(clock, capsys):
    with progress("drawing", 40) as advance:
        for _ in range(40):
            clock(1)
            advance(1)
        clock(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"drawing: {done} of 40" for done in (10, 20, 30, 40)]


def test_the_end_is_told_where_it_was_not_yet(clock, capsys):
    with progress("finding", None) as advance:
        clock(10)
        advance(1)
        advance(1)
    assert capsys.readouterr().err == "finding: 1\nfinding: 2\n"


def test_hidden(clock, capsys):
    with progress("drawing", 3, shown=False) as advance:
        clock(100)
        advance(3)
    assert capsys.readouterr() == ("", "")
