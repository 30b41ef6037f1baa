"""Progress of long work: animated on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

Advance = Callable[[float], None]
PLAIN_EVERY = 10.0
_outer: ContextVar["Progress | None"] = ContextVar("_outer", default=None)


@contextmanager
def progress(description: str, total: int | None, *, shown: bool = True) -> Iterator[Advance]:
    """Show how far a piece of work is; give a function that is called with the steps done.

    On a terminal it is a bar with the time that is left, under the bar of the work that this is
    part of; elsewhere a line every ten seconds and one at the end of work that took longer. It goes
    to standard error.
    """
    if not shown:
        yield lambda steps: None
    elif sys.stderr.isatty():
        with _bars() as bars:
            task = bars.add_task(description, total=total)
            try:
                yield lambda steps: bars.advance(task, steps)
            finally:
                bars.remove_task(task)
    else:
        lines = _PlainLines(description, total)
        yield lines.advance
        lines.end()


@contextmanager
def _bars() -> Iterator["Progress"]:
    """The bars that are on the terminal already, or new ones: a terminal has room for one set."""
    outer = _outer.get()
    if outer is not None:
        yield outer
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        token = _outer.set(bars)
        try:
            yield bars
        finally:
            _outer.reset(token)


class _PlainLines:
    def __init__(self, description: str, total: int | None) -> None:
        self.description = description
        self.of = "" if total is None else f" of {total}"
        self.done, self.last = 0.0, -1.0
        self.started = self.told = time.monotonic()

    def advance(self, steps: float) -> None:
        self.done += steps
        if time.monotonic() - self.told >= PLAIN_EVERY:
            self._tell()

    def end(self) -> None:
        if time.monotonic() - self.started >= PLAIN_EVERY and self.done != self.last:
            self._tell()

    def _tell(self) -> None:
        self.told, self.last = time.monotonic(), self.done
        print(f"{self.description}: {self.done:.0f}{self.of}", file=sys.stderr, flush=True)
