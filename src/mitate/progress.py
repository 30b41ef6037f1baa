"""Progress of long work: animated on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]
PLAIN_EVERY = 10.0


@contextmanager
def progress(description: str, total: int | None, *, shown: bool = True) -> Iterator[Advance]:
    """Show how far a piece of work is; give a function that is called with the steps done.

    On a terminal it is a bar with the time that is left; elsewhere a line every ten seconds and one
    at the end of work that took longer. It goes to standard error.
    """
    if not shown:
        yield lambda steps: None
    elif sys.stderr.isatty():
        with _bar(description, total) as advance:
            yield advance
    else:
        yield _plain_lines(description, total)


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


def _plain_lines(description: str, total: int | None) -> Advance:
    done, told = 0, time.monotonic()

    def advance(steps: int) -> None:
        nonlocal done, told
        done += steps
        if time.monotonic() - told >= PLAIN_EVERY:
            told = time.monotonic()
            of = f" of {total}" if total is not None else ""
            print(f"{description}: {done}{of}", file=sys.stderr, flush=True)

    return advance
