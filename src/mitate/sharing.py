"""What the threads of one process share: networks, in turn, and switches that are one for all."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

_turns: WeakKeyDictionary[Any, AbstractContextManager[Any]] = WeakKeyDictionary()
_lock = Lock()


def turn(thing: Any) -> AbstractContextManager[Any]:
    """One thread at a time has its turn with a thing; that thread may enter again."""
    with _lock:
        return _turns.setdefault(thing, RLock())


class Together:
    """A context that is one for the process: the first to come enters it, the last to go leaves.

    Switches of a library that are put back to what was found would otherwise be left on: the
    second thread finds what the first one set, and puts that back when the first has gone.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        """``make`` gives the context, anew each time that nobody is inside."""
        self.make = make
        self.lock, self.inside = Lock(), 0
        self.entered: AbstractContextManager[Any]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Be inside, nested or in threads."""
        with self.lock:
            if not self.inside:
                self.entered = self.make()
                self.entered.__enter__()
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.entered.__exit__(None, None, None)
