"""A sheet of pictures: one row an image, its maps beside it, and a colour bar at the right."""

import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from mitate.data.made import MADE_BY
from mitate.drawing.colour import COLORMAP, heat
from mitate.drawing.fonts import Lettering, lettering_for, warn_missing
from mitate.drawing.layout import (
    AIR,
    DPI,
    GAP,
    HEADING,
    LEADING,
    NARROWEST,
    SMALL,
    Columns,
    Lines,
    Panel,
    Row,
    Strip,
    column_width,
    strip,
)
from mitate.errors import UsageError
from mitate.files import write_bytes

__all__ = ["Panel", "Row", "Sheet", "draw_sheet", "encode", "save_sheet"]

MAX_ROWS = 100
# A photo compressed at PNG's default level is 5 % smaller and takes three times as long.
ENCODING: dict[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 3}, "metadata": {"Software": MADE_BY}},
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"metadata": {"Date": None}},
    "jpg": {"pil_kwargs": {"quality": 92}},
    "jpeg": {"pil_kwargs": {"quality": 92}},
}
MARGIN, ROW_GAP, BAR, BAR_ROOM, LEAST_BAR = 0.22, 0.24, 0.09, 0.74, 0.5
INK, GREY, RULE, AMBER = "#1c1c1e", "#62626a", "#d4d4da", "#8f4a00"


class Sheet(Figure):
    """A figure that shows itself in a notebook, where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        return encode(self, "png")


def draw_sheet(
    rows: Sequence[Row],
    *,
    colormap: str | None = COLORMAP,
    signed: bool = False,
    column_titles: Sequence[str] = (),
    bar_label: str = "relative to the map's maximum",
    title: str = "",
) -> Sheet:
    """Draw rows of pictures at a constant scale.

    Args:
        rows: From 1 to 100 of them; they may differ in length and in the shape of their pictures.
        colormap: What the bar shows; no bar where None.
        signed: Whether the bar begins at -1 rather than at 0.
        column_titles: One a column; equal neighbours share one heading over their block.
        bar_label: What 1 means.
        title: Over it all.

    Raises:
        UsageError: no row, too many, or an unknown colormap.
    """
    if not 1 <= len(rows) <= MAX_ROWS:
        raise UsageError(f"a sheet has 1 to {MAX_ROWS} rows, not {len(rows)}: draw several sheets")
    letters = lettering_for(_texts(rows, column_titles, bar_label, title))
    warn_missing(letters.missing)
    columns = Columns.of(
        max(1, *(len(row.panels) for row in rows)), column_width(rows), column_titles
    )
    strips = [strip(row, columns, letters) for row in rows]
    heading = Lines.of(title, columns.right, HEADING, letters, most=2)
    paper = Paper(*_extent(columns, strips, heading, bar=colormap is not None), letters)
    paper.write(MARGIN, MARGIN, heading)
    _draw_headings(paper, columns, MARGIN + _title_height(heading))
    top = MARGIN + _title_height(heading) + _blocks_height(columns)
    bottom = _draw_strips(paper, columns, strips, top)
    if colormap is not None:
        begin = top + strips[0].name_height + strips[0].over
        end = begin + max(strips[0].picture, min(NARROWEST, bottom - begin))
        _draw_bar(paper, (begin, end), colormap, bar_label, signed=signed)
    return paper.figure


def save_sheet(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as .png, .pdf, .svg or .jpg; the file appears whole or not at all.

    Raises:
        UsageError: another suffix.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ENCODING:
        raise UsageError(f"{path.name}: a figure's name ends in one of .{', .'.join(ENCODING)}")
    return write_bytes(path, encode(figure, kind))


def encode(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a png, pdf, svg or jpg, without a date in them."""
    with BytesIO() as buffer:
        figure.savefig(buffer, format=kind, dpi=figure.dpi, **ENCODING[kind])
        return buffer.getvalue()


class Paper:
    """A figure that is drawn on in inches from its top left corner."""

    def __init__(self, width: float, height: float, letters: Lettering) -> None:
        self.figure = Sheet(figsize=(width, height), dpi=DPI, facecolor="white")
        # Keeps each picture an image of its own in PDF and SVG, at its own resolution.
        self.figure.suppressComposite = True
        self.letters = letters
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()

    def write(self, x: float, y: float, lines: Lines, colour: str = INK) -> float:
        """Write lines from a top left corner down; gives where the next would begin."""
        for line in lines.lines:
            self.label(x, y, line, lines.size, colour)
            y += lines.size * LEADING
        return y

    def label(
        self, x: float, y: float, text: str, size: float, colour: str = GREY, **options: Any
    ) -> None:
        """Write one line, as spelt; `options` are matplotlib's."""
        placed: dict[str, Any] = {"ha": "left", "va": "top", "parse_math": False} | options
        family = list(self.letters.families)
        self.axes.text(x, y, text, size=size, color=colour, family=family, **placed)

    def paste(self, x: float, y: float, width: float, height: float, picture: Image.Image) -> None:
        """Place a picture by its top left corner."""
        image = AxesImage(
            self.axes, extent=(x, x + width, y + height, y), interpolation="antialiased"
        )
        image.set_data(np.asarray(picture))
        self.axes.add_image(image)

    def rule(self, x: float, y: float, width: float, colour: str = RULE) -> None:
        """Draw a thin line to the right."""
        self.axes.hlines(y, x, x + width, colors=colour, linewidth=0.6)


def _extent(
    columns: Columns, strips: Sequence[Strip], heading: Lines, *, bar: bool
) -> tuple[float, float]:
    """Width and height of the paper that holds it all."""
    rows = sum(row.height + ROW_GAP for row in strips) - ROW_GAP
    height = 2 * MARGIN + _title_height(heading) + _blocks_height(columns) + rows
    return 2 * MARGIN + columns.right + bar * BAR_ROOM, max(height, 1.0)


def _title_height(heading: Lines) -> float:
    return heading.height + 2 * AIR if heading.lines else 0


def _blocks_height(columns: Columns) -> float:
    return HEADING * LEADING + 3 * AIR if columns.blocks else 0


def _draw_headings(paper: Paper, columns: Columns, top: float) -> None:
    for start, end, title in columns.blocks:
        left, width = MARGIN + columns.lefts[start], columns.span(start, end)
        below = paper.write(left, top, Lines.of(title, width, 10.5, paper.letters))
        paper.rule(left, below + AIR / 2, width, GREY)


def _draw_strips(paper: Paper, columns: Columns, strips: Sequence[Strip], top: float) -> float:
    """Draw the rows downwards; gives where the last one ends."""
    for number, row in enumerate(strips):
        if number:
            paper.rule(MARGIN, top - ROW_GAP / 2, columns.right)
        paper.write(MARGIN, top, row.name)
        for left, cell in zip(columns.lefts, row.cells, strict=False):
            x, y = MARGIN + left, top + row.name_height + row.over
            below = paper.write(x, y - cell.over, cell.title)
            paper.write(x, below, cell.detail, GREY)
            paper.paste(x, y, cell.width, cell.height, cell.picture)
            paper.write(x, y + cell.height + AIR, cell.note, AMBER)
        top += row.height + ROW_GAP
    return top - ROW_GAP


def _draw_bar(
    paper: Paper, between: tuple[float, float], colormap: str, label: str, *, signed: bool
) -> None:
    top, bottom = between
    if bottom - top < LEAST_BAR:
        return
    left = paper.axes.get_xlim()[1] - MARGIN - BAR_ROOM + GAP
    values = np.linspace(1, -1 if signed else 0, 256)[:, None]
    colours = Image.fromarray(heat(values, colormap, signed=signed))
    paper.paste(left, top, BAR, bottom - top, colours)
    right = left + BAR + 0.05
    for at, words in ((0, "1"), (0.5, "0" if signed else "0.5"), (1, "-1" if signed else "0")):
        y = top + at * (bottom - top)
        paper.label(right, y, words, SMALL, va=("top", "center", "bottom")[round(2 * at)])
    lines = Lines.of(label, max(bottom - top, 1.0), SMALL, paper.letters, most=2)
    for number, line in enumerate(lines.lines):
        x = right + 0.24 + number * SMALL * LEADING
        paper.label(x, (top + bottom) / 2, line, SMALL, rotation=90, va="center")


def _texts(
    rows: Sequence[Row], column_titles: Sequence[str], bar_label: str, title: str
) -> Iterator[str]:
    yield from (title, bar_label, *column_titles)
    for row in rows:
        yield row.name
        for panel in row.panels:
            yield from (panel.title, panel.detail, panel.note)
