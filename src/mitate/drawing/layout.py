"""What a sheet consists of, and how wide and how high each part of it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from PIL import Image

from mitate.drawing.colour import Picture, as_image
from mitate.drawing.fonts import Lettering
from mitate.drawing.wrap import wrap

# Lengths are inches, sizes of letters are points.
DPI = 144
WIDEST, HIGHEST, NARROWEST = 2.6, 2.2, 1.6
GAP, BLOCK_GAP = 0.14, 0.34
HEADING, TITLE, SMALL = 12.0, 9.0, 8.0
LEADING = 1.35 / 72
AIR = 0.06


@dataclass(frozen=True)
class Panel:
    """One picture with its words.

    Attributes:
        title: The class or what the picture is; wrapped to two lines, then cut with an ellipsis.
        picture: RGB of any size, as a PIL image or uint8 (H, W, 3).
        detail: A short line under the title, wrapped but never cut, such as ``97.3 %  ✓ true``.
        note: A warning under the picture.
    """

    title: str
    picture: Picture
    detail: str = ""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One image: the panels from left to right, under its name."""

    panels: tuple[Panel, ...]
    name: str = ""


@dataclass(frozen=True)
class Lines:
    """Words broken to the width they have, at one size."""

    lines: tuple[str, ...]
    size: float

    @classmethod
    def of(
        cls, text: str, width: float, size: float, letters: Lettering, *, most: int = 1
    ) -> "Lines":
        """Break a text into at most so many lines of this width in inches."""
        return cls(wrap(text, width, size, letters, lines=most), size)

    @property
    def height(self) -> float:
        """Inches from the top of the first line to the bottom of the last."""
        return len(self.lines) * self.size * LEADING


@dataclass(frozen=True)
class Cell:
    """A panel whose words are broken and whose picture has its size on paper."""

    picture: Image.Image
    width: float
    height: float
    title: Lines
    detail: Lines
    note: Lines

    @property
    def over(self) -> float:
        """Height of the words over the picture."""
        height = self.title.height + self.detail.height
        return height + AIR if height else 0

    @property
    def under(self) -> float:
        """Height of the words under the picture."""
        return self.note.height + AIR if self.note.lines else 0


@dataclass(frozen=True)
class Strip:
    """One row of cells and the name over it."""

    name: Lines
    cells: tuple[Cell, ...]

    @cached_property
    def over(self) -> float:
        """Height of the words between the name and the pictures."""
        return max((cell.over for cell in self.cells), default=0)

    @cached_property
    def picture(self) -> float:
        """Height of the highest picture."""
        return max((cell.height for cell in self.cells), default=0)

    @cached_property
    def height(self) -> float:
        """Height of it all."""
        under = max((cell.under for cell in self.cells), default=0)
        return self.name_height + self.over + self.picture + under

    @property
    def name_height(self) -> float:
        """Height of the name with the air under it."""
        return self.name.height + 1.5 * AIR if self.name.lines else 0


@dataclass(frozen=True)
class Columns:
    """Left edges of the columns, all of one width, and the headings over blocks of them."""

    lefts: tuple[float, ...]
    width: float
    blocks: tuple[tuple[int, int, str], ...]

    @classmethod
    def of(cls, count: int, width: float, titles: Sequence[str]) -> "Columns":
        """Set so many columns; a block of equal titles stands a little apart."""
        blocks = tuple(_blocks(titles[:count]))
        starts = {start for start, _, _ in blocks} | {end for _, end, _ in blocks}
        lefts, left = [], 0.0
        for column in range(count):
            left += BLOCK_GAP - GAP if column and column in starts else 0
            lefts.append(left)
            left += width + GAP
        return cls(tuple(lefts), width, blocks)

    @property
    def right(self) -> float:
        """Right edge of the last column."""
        return self.span(0, len(self.lefts))

    def span(self, start: int, end: int) -> float:
        """Width of the columns from `start` up to, not including, `end`."""
        return self.lefts[end - 1] + self.width - self.lefts[start]


def column_width(rows: Sequence[Row]) -> float:
    """The width that the widest picture needs, and enough for words where all are narrow."""
    pictures = (panel.picture for row in rows for panel in row.panels)
    return max(NARROWEST, *(_fitted(*_size(picture))[0] for picture in pictures), 0)


def strip(row: Row, columns: Columns, letters: Lettering) -> Strip:
    """Fit one row into the columns."""
    cells = tuple(_cell(panel, columns.width, letters) for panel in row.panels)
    return Strip(Lines.of(row.name, columns.right, TITLE, letters), cells)


def _cell(panel: Panel, width: float, letters: Lettering) -> Cell:
    picture = as_image(panel.picture)
    on_paper = _fitted(*picture.size)
    picture.thumbnail((round(1.5 * WIDEST * DPI),) * 2)
    return Cell(
        picture,
        *on_paper,
        title=Lines.of(panel.title, width, TITLE, letters, most=2),
        detail=Lines.of(panel.detail, width, SMALL, letters, most=9),
        note=Lines.of(panel.note, width, SMALL, letters, most=4),
    )


def _fitted(width: int, height: int) -> tuple[float, float]:
    """Width and height on paper of so many pixels."""
    scale = min(WIDEST / width, HIGHEST / height)
    return width * scale, height * scale


def _size(picture: Picture) -> tuple[int, int]:
    if isinstance(picture, Image.Image):
        return picture.size
    return picture.shape[1], picture.shape[0]


def _blocks(titles: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(first column, column after the last, title) of each run of one title that is not empty."""
    start = 0
    for title, run in groupby(titles):
        end = start + len(list(run))
        if title:
            yield start, end, title
        start = end
