"""Figures of explanations: the picture at the left, then one overlay a method and class."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from mitate.drawing.colour import COLORMAP
from mitate.errors import UsageError
from mitate.explain.explanation import Explanation

if TYPE_CHECKING:
    from mitate.drawing.layout import Panel, Row
    from mitate.drawing.sheet import Sheet

MOST_ROWS = 24


def draw(
    explanations: Sequence[Explanation],
    *,
    colormap: str | None = None,
    opacity: float | None = None,
    mode: str = "bicubic",
    title: str = "",
) -> "Sheet":
    """Draw explanations of the same images side by side, one row an image.

    Raises:
        UsageError: explanations of different images.
    """
    from mitate.drawing.sheet import draw_sheet

    first = explanations[0]
    if any(len(other) != len(first) for other in explanations):
        raise UsageError("explanations side by side must be of the same images")
    overlays = [e.overlay(colormap=colormap, opacity=opacity, mode=mode) for e in explanations]
    rows = [
        _row(explanations, [drawn[index] for drawn in overlays], index)
        for index in range(len(first))
    ]
    several = len(explanations) > 1
    headings = [f"{e.method} · {e.layer}" for e in explanations for _ in range(e.classes.shape[1])]
    return draw_sheet(
        rows,
        colormap=colormap or COLORMAP,
        column_titles=["", *headings] if several else (),
        title=title or ("" if several else f"{first.method} · {first.layer}"),
        signed=any(bool((e.maps < 0).any()) for e in explanations),
    )


def as_html(explanation: Explanation) -> str:
    """The figure of an explanation as an inline picture, for notebooks."""
    from mitate.drawing.sheet import encode

    shown = explanation[:MOST_ROWS]
    picture = b64encode(encode(draw([shown]), "png")).decode()
    alt = escape(f"{explanation.method} maps of {len(shown)} image(s) at {explanation.layer}")
    more = len(explanation) - len(shown)
    note = f"<p>and {more} more images: explanation[{MOST_ROWS}:].plot()</p>" if more else ""
    return f'<img src="data:image/png;base64,{picture}" alt="{alt}" style="max-width:100%">{note}'


def _row(explanations: Sequence[Explanation], overlays: Sequence[list], index: int) -> "Row":  # type: ignore[type-arg]
    from mitate.drawing.layout import Panel, Row

    first = explanations[0]
    label = first.label_of(index)
    original = Panel(
        title=first.names[index] if first.names else f"image {index}",
        picture=first.shown()[index],
        note=f"true class: {label}" if label is not None else "",
    )
    panels = [original]
    for explanation, drawn in zip(explanations, overlays, strict=True):
        panels += [
            _panel(explanation, index, target, picture) for target, picture in enumerate(drawn)
        ]
    return Row(tuple(panels))


def _panel(explanation: Explanation, index: int, target: int, picture: object) -> "Panel":
    from mitate.drawing.layout import Panel

    probability = float(explanation.probabilities[index, target])
    name = explanation.name_of(index, target)
    mark = " (true)" if name == explanation.label_of(index) else ""
    flag = explanation.flag_of(index, target)
    return Panel(
        title=f"{name}  {probability:.1%}{mark}",
        picture=picture,  # type: ignore[arg-type]
        note=f"{flag.kind}: {flag.reason}" if flag else "",
    )
