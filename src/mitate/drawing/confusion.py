"""The confusion matrix as a picture."""

from collections.abc import Sequence
from itertools import product
from math import sqrt

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mitate.drawing.fonts import Lettering, lettering_for, warn_missing

# Inches; sizes of letters are points.
CELL, WIDEST, MARGIN, WORDS = 0.42, 14.0, 0.15, 0.45
LARGEST, SMALLEST, HEADING = 8.0, 4.0, 9.0
LONGEST = 32
DARK, INK = 0.6, "#1c1c1e"


def draw_confusion(confusion: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Draw images by true class (rows) and predicted class (columns), tinted by share of the row.

    The matrix is at most 14 inches wide: with more classes its cells shrink, and where names and
    numbers could no longer be read they are left out, and a line says so.
    """
    letters = lettering_for(class_names)
    cell = min(CELL, WIDEST / max(1, len(class_names)))
    size = min(LARGEST, 72 * cell * 0.6)
    readable = size >= SMALLEST
    names = [_shortened(letters.spell(name)) for name in class_names] if readable else []
    room = max((letters.width(name, size) for name in names), default=0.0)
    figure, axes = _paper(cell * len(class_names), room)
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if readable:
        warn_missing(letters.missing)
        _write_names(axes, names, letters, size)
        _write_counts(axes, counts, shares, size)
    else:
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{len(class_names)} classes: too many for names", size=HEADING)
    return figure


def _paper(side: float, room: float) -> tuple[Figure, Axes]:
    """A figure with a matrix so wide, and room for names to the left and, slanted, below."""
    left, below = MARGIN + WORDS + room, MARGIN + WORDS + room / sqrt(2)
    width, height = left + side + 2 * MARGIN, below + side + 2 * MARGIN + WORDS / 2
    figure = Figure(figsize=(max(width, 2.0), max(height, 2.0)), dpi=144)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, below / height, side / width, side / height))
    row, column = (below + side / 2) / height, (left + side / 2) / width
    figure.text(MARGIN / width, row, "true", rotation=90, va="center", size=HEADING)
    figure.text(column, MARGIN / height, "predicted", ha="center", size=HEADING)
    return figure, axes


def _write_names(axes: Axes, names: Sequence[str], letters: Lettering, size: float) -> None:
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(family=list(letters.families), size=size, parse_math=False)


def _write_counts(
    axes: Axes, counts: NDArray[np.integer], shares: NDArray[np.floating], size: float
) -> None:
    for row, column in product(range(len(counts)), repeat=2):
        if count := counts[row, column]:
            colour = "white" if shares[row, column] > DARK else INK
            fitted = min(size, 3 * size / len(str(count)))
            axes.text(column, row, str(count), color=colour, size=fitted, ha="center", va="center")


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
