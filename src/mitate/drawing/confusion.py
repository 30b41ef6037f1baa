"""The confusion matrix as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mitate.drawing.fonts import lettering_for, warn_missing

CELL, EDGE = 0.42, 1.9
DARK = 0.6


def draw_confusion(confusion: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Draw images by true class (rows) and predicted class (columns), tinted by share of the row."""
    letters = lettering_for(class_names)
    warn_missing(letters.missing)
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = EDGE + CELL * len(class_names)
    figure = Figure(figsize=(side, side), layout="constrained", dpi=144)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [letters.spell(name) for name in class_names]
    fonts = {"family": list(letters.families), "size": 8}
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", **fonts)
    axes.set_yticks(range(len(names)), names, **fonts)
    axes.set_xlabel("predicted", size=9)
    axes.set_ylabel("true", size=9)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > DARK else "#1c1c1e"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, size=8)
    return figure
