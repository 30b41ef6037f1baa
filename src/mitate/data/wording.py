"""How notices count and name things."""

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """'1 image', '2 images', '3 classes'."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def some_of(names: Sequence[object], most: int = 3) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"
