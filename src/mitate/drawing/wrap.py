"""Breaking words into lines of a given width."""

import re
from collections.abc import Callable
from functools import partial

from mitate.drawing.fonts import Lettering

# A break may follow a space or a separator, and stand on either side of a Chinese or Japanese sign.
SIGN, SEPARATOR = r"\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60", r"\s_/.\-"
WORD = f"[^{SEPARATOR}{SIGN}]"
PIECE = re.compile(f"[{SIGN}]|{WORD}*[{SEPARATOR}]+|{WORD}+")
ELLIPSIS = "…"


def wrap(
    text: str, width: float, size: float, letters: Lettering, *, lines: int
) -> tuple[str, ...]:
    """At most `lines` lines, each within `width` inches; the last ends in … where words are left.

    Code points stand for the characters that no font has.
    """
    fits = partial(_fits, width=width, size=size, letters=letters)
    rest, broken = letters.spell(text), list[str]()
    while rest and len(broken) < lines - 1:
        line = _longest(rest, fits)
        broken.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    return (*broken, _shortened(rest, fits)) if rest else tuple(broken)


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    """The longest start that fits, whole pieces if one does, else characters, at least one."""
    for pieces in (PIECE.findall(text), list(text)):
        line = ""
        for piece in pieces:
            if not fits(line + piece):
                break
            line += piece
        if line:
            return line
    return text[:1]


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    if fits(text):
        return text
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle] + ELLIPSIS) else (low, middle - 1)
    return text[:low].rstrip() + ELLIPSIS


def _fits(line: str, width: float, size: float, letters: Lettering) -> bool:
    return letters.width(line.rstrip(), size) <= width
