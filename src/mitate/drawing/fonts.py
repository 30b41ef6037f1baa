"""Fonts that have the characters of class names, and how to spell the rest without boxes."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from unicodedata import category, normalize

from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager, weight_dict
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import text_to_path

from mitate.errors import MitateWarning

FAMILY = "DejaVu Sans"  # ships with matplotlib, so it is always there
# Fonts of boxes, of bitmaps, and of TeX symbols under the code points of letters.
UNUSABLE = ("last", "adobeblank", "notocoloremoji", "stixnon", "stixsize", "cm")
PREFERRED = ("sans", "gothic", "jp")
POINTS = 72


class MissingGlyphWarning(MitateWarning):
    """No installed font has some characters of a text; they are spelt as code points."""


@dataclass(frozen=True)
class Lettering:
    """The families that together draw some texts, and the characters that none of them has."""

    families: tuple[str, ...] = (FAMILY,)
    missing: frozenset[str] = frozenset()

    def spell(self, text: str) -> str:
        """The text in one line, with missing characters as ``U+6B63``."""
        spelt = (f" U+{ord(c):04X} " if c in self.missing else c for c in drawable(text))
        return " ".join("".join(spelt).split())

    def width(self, text: str, size: float) -> float:
        """The width in inches of a spelt text at a size in points."""
        return _width(text, size, self.families)


def lettering_for(texts: Iterable[str]) -> Lettering:
    """The fewest installed families that draw all texts, matplotlib's own first."""
    wanted = {c for text in texts for c in drawable(text)}
    return _lettering(frozenset(wanted))


def undrawable(texts: Iterable[str]) -> frozenset[str]:
    """The characters that no installed font has."""
    return lettering_for(texts).missing


def font_for(texts: Iterable[str], size: float = 9) -> FontProperties:
    """Font properties for matplotlib whose chain of families draws all texts that can be drawn."""
    return FontProperties(family=list(lettering_for(texts).families), size=size)


def drawable(text: str) -> str:
    """The text composed (macOS decomposes file names), in one line, without invisible marks."""
    kept = (" " if category(c) in {"Cc", "Zl", "Zp"} else c for c in normalize("NFC", text))
    return " ".join("".join(c for c in kept if not _invisible(c)).split())


def warn_missing(missing: Iterable[str], stacklevel: int = 2) -> None:
    """Tell which characters are spelt as code points and how to get a font, if there are any."""
    if characters := " ".join(sorted(c if c.isprintable() else ascii(c) for c in missing)):
        warnings.warn(
            f"no installed font has {characters}: drawn as code points; install a font that has "
            "them, for Japanese and Chinese for example with: apt install fonts-noto-cjk",
            MissingGlyphWarning,
            stacklevel=stacklevel + 1,
        )


def forget() -> None:
    """Look at the installed fonts anew from now on."""
    for cached in (_lettering, _coverage, _width):
        cached.cache_clear()


@lru_cache(maxsize=256)
def _lettering(wanted: frozenset[str]) -> Lettering:
    chain, missing = _cover(wanted - _coverage(FAMILY), _families())
    if missing and _learn_new_fonts():
        chain, missing = _cover(wanted - _coverage(FAMILY), _families())
    return Lettering((FAMILY, *chain), missing)


def _cover(
    missing: frozenset[str], families: Sequence[str]
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Take the family that has most of what is missing, until none has any of it."""
    chain: list[str] = []
    while missing and families:
        best = max(families, key=lambda family: len(missing & _coverage(family)))
        if not missing & _coverage(best):
            break
        chain.append(best)
        missing -= _coverage(best)
    return tuple(chain), missing


def _families() -> list[str]:
    """Installed families, the likelier ones first: a tie goes to a Japanese sans serif."""
    names = {entry.name for entry in fontManager.ttflist}
    usable = [n for n in names if not n.lower().replace(" ", "").startswith(UNUSABLE)]
    return sorted(usable, key=lambda n: (-sum(p in n.lower() for p in PREFERRED), n))


@lru_cache(maxsize=4096)
def _coverage(family: str) -> frozenset[str]:
    """What the upright face of a family that is nearest to regular has glyphs for."""
    faces = [entry for entry in fontManager.ttflist if entry.name == family]
    regular = min(faces, key=lambda face: (face.style != "normal", abs(_weight(face.weight) - 400)))
    try:
        font = FT2Font(regular.fname)
    except (OSError, RuntimeError, ValueError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()


def _learn_new_fonts() -> bool:
    """Add fonts installed since matplotlib wrote its list, which it never looks at again."""
    new = set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}
    for path in sorted(new):
        try:
            fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError):
            continue
    if new:
        _coverage.cache_clear()
    return bool(new)


@lru_cache(maxsize=65536)
def _width(text: str, size: float, families: tuple[str, ...]) -> float:
    font = FontProperties(family=list(families), size=size)
    width: float = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return width / POINTS


def _weight(weight: int | str) -> int:
    return weight if isinstance(weight, int) else weight_dict.get(weight, 400)


def _invisible(character: str) -> bool:
    return category(character) == "Cf" or 0xFE00 <= ord(character) <= 0xFE0F
