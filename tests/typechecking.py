"""The run-time type check: beartype, with int where float is expected, as in PEP 484."""

import random
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))
DICE = random.Random(0)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check types; beartype picks the items that it looks at by dice of its own.

    By default it throws the global ones, which would hide from tests that mitate leaves them alone.
    """
    wrapped = CHECK(function)
    defaults = getattr(wrapped, "__kwdefaults__", None) or {}
    for name in defaults:
        if name.endswith("getrandbits"):
            defaults[name] = DICE.getrandbits
    return wrapped
