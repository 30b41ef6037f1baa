"""Figures of explanations: the picture at the left, then one overlay a method and class."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from mitate.errors import UsageError
from mitate.explain.explanation import Explanation, default_colormap
from mitate.models.tasks import told

if TYPE_CHECKING:
    from mitate.drawing.layout import Panel, Row
    from mitate.drawing.sheet import Sheet

MOST_ROWS = 24
VOLUME = 3  # sides of an input


def draw(
    explanations: Sequence[Explanation],
    *,
    colormap: str | None = None,
    opacity: float | None = None,
    mode: str = "bicubic",
    title: str = "",
    segmentations: Sequence["Panel"] = (),
) -> "Sheet":
    """Draw explanations of the same images side by side, one row an image.

    Args:
        explanations: one a method; each gives a column a class.
        colormap: of the maps; None takes the default.
        opacity: of the maps over the picture; None takes the default.
        mode: how maps are resized to the picture.
        title: over it all; empty for the default.
        segmentations: panels to stand between the pictures and the maps, one an image.

    Raises:
        UsageError: explanations of different images, or of none.
    """
    from mitate.drawing.sheet import draw_sheet

    first = explanations[0]
    if not len(first):
        raise UsageError("this explanation is of no image: there is nothing to draw")
    if any(len(other) != len(first) for other in explanations):
        raise UsageError("explanations side by side must be of the same images")
    signed = any(e.signed for e in explanations)
    colormap = default_colormap(colormap, signed)
    overlays = [
        e.overlay(colormap=colormap, opacity=opacity, mode=mode, signed=signed)
        for e in explanations
    ]
    rows = [
        _row(explanations, [drawn[index] for drawn in overlays], index, segmentations)
        for index in range(len(first))
    ]
    several = len(explanations) > 1
    headings = [_heading(e) for e in explanations for _ in range(e.classes.shape[1])]
    return draw_sheet(
        rows,
        colormap=colormap,
        column_titles=["", *[""][: len(segmentations)], *headings] if several else (),
        title=title or ("" if several else _heading(first)),
        signed=signed,
    )


def as_html(explanation: Explanation) -> str:
    """The figure of an explanation as an inline picture, for notebooks."""
    from mitate.drawing.sheet import encode

    if not len(explanation):
        return "<p>an explanation of no image</p>"
    if len(explanation.input_size) == VOLUME:
        return f"<p>{escape(repr(explanation))}: explanation.slice(place) can be drawn</p>"
    shown = explanation[:MOST_ROWS]
    picture = b64encode(encode(draw([shown]), "png")).decode()
    alt = escape(f"{explanation.method} maps of {len(shown)} image(s) at {explanation.layer}")
    more = len(explanation) - len(shown)
    note = f"<p>and {more} more images: explanation[{MOST_ROWS}:].plot()</p>" if more else ""
    return f'<img src="data:image/png;base64,{picture}" alt="{alt}" style="max-width:100%">{note}'


def _heading(explanation: Explanation) -> str:
    """How the maps were made, in words."""
    options = explanation.options
    against = f"against {options['against']}" if "against" in options else ""
    augmented = "augmented" if options.get("augment") else ""
    words = (explanation.method, explanation.layer, explanation.fusion, against, augmented)
    return " · ".join(word for word in words if word)


def _row(
    explanations: Sequence[Explanation],
    overlays: Sequence[list[Image.Image]],
    index: int,
    segmentations: Sequence["Panel"],
) -> "Row":
    from mitate.drawing.layout import Panel, Row

    first = explanations[0]
    label = first.label_of(index)
    original = Panel(
        title=first.names[index] if first.names else f"image {index}",
        picture=first.shown()[index],
        detail=f"true class: {label}" if label is not None else "",
    )
    panels = [original, *segmentations[index : index + 1]]
    for explanation, drawn in zip(explanations, overlays, strict=True):
        panels += [
            _panel(explanation, index, target, picture) for target, picture in enumerate(drawn)
        ]
    return Row(tuple(panels))


def _panel(explanation: Explanation, index: int, target: int, picture: Image.Image) -> "Panel":
    from mitate.drawing.layout import Panel

    probability = float(explanation.probabilities[index, target])
    true = (
        bool(explanation.labels) and explanation.labels[index] == explanation.classes[index, target]
    )
    flag = explanation.flag_of(index, target)
    return Panel(
        title=explanation.name_of(index, target),
        detail=told(explanation.task, probability) + ("  ✓ true" if true else ""),
        picture=picture,
        note=f"{flag.kind}: {flag.reason}" if flag else "",
    )
