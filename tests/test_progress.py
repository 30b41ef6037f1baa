import io
import sys

import pytest

from mitate import progress as module
from mitate.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_shown_where_none_is_wanted(capsys) -> None:
    with progress("work", 3, shown=False) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_short_work_prints_nothing_elsewhere_than_on_a_terminal(capsys, clock) -> None:
    with progress("work", 3) as advance:
        for _ in range(3):
            clock[0] += 1
            advance(1)
    assert capsys.readouterr() == ("", "")


def test_long_work_prints_a_line_every_ten_seconds_and_one_at_the_end(capsys, clock) -> None:
    with progress("work", 25) as advance:
        for _ in range(25):
            clock[0] += 1
            advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["work: 10 of 25", "work: 20 of 25", "work: 25 of 25"]


def test_an_end_that_was_told_is_not_told_again(capsys, clock) -> None:
    with progress("work", 2) as advance:
        clock[0] += 11
        advance(2)
        clock[0] += 1
    assert capsys.readouterr().err == "work: 2 of 2\n"


def test_work_of_unknown_length_and_in_parts(capsys, clock) -> None:
    with progress("work", None) as advance:
        clock[0] += 11
        advance(0.25)
        advance(2.5)
    assert capsys.readouterr().err.splitlines() == ["work: 0", "work: 3"]


def test_a_bar_on_a_terminal(monkeypatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("work", 4) as advance:
        advance(1.5)
        advance(2.5)
        (task,) = module._outer.get().tasks
        assert (task.description, task.completed, task.total) == ("work", 4, 4)
    assert "work" in terminal.getvalue()


def test_a_part_of_the_work_has_its_bar_under_the_wholes(monkeypatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("whole", 2) as advance:
        for _ in range(2):
            with progress("part", 3) as step:
                step(3)
            advance(1)
        bars = module._outer.get()
        assert [task.description for task in bars.tasks] == ["whole"]
    assert module._outer.get() is None
    assert "whole" in terminal.getvalue()
    assert "part" in terminal.getvalue()


def test_the_terminal_is_given_back_after_an_exception(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyError), progress("work", 2):
        raise KeyError
    assert module._outer.get() is None
    with progress("work", 2) as advance:
        advance(2)
