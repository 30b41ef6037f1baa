"""Where in the image a region lies, in words."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from mitate.errors import UsageError

Kind = Literal["corner", "border", "inside", "all around", "whole image"]
OUTER = 0.25  # a region is at an edge where its middle lies in this share of the image beside it
WHOLE = 0.6  # a region that covers more is the whole image
FRAME = 0.125  # the width of the frame that heat on the border is counted on, as a share of a side


@dataclass(frozen=True)
class Place:
    """A part of the image: its name, as in ``the lower right corner``, and what kind it is.

    ``corner`` and ``border`` touch the edge of the image; ``inside`` does not, or lies nearer to
    the middle; ``all around`` lies along opposite edges with the middle left free.
    """

    name: str
    kind: Kind

    @property
    def at_edge(self) -> bool:
        """Whether it lies where photos seldom show what they are of."""
        return self.kind in ("corner", "border", "all around")


def place_of(region: Bool[np.ndarray, "h w"]) -> Place:
    """The part of the image that a region takes.

    The middle of the region decides: in the outer quarter along both axes it is a corner, along one
    a border, where the region touches the edge there.

    Raises:
        UsageError: an empty region.
    """
    if not region.any():
        raise UsageError("an empty region has no place: give one with a pixel in it")
    if region.mean() > WHOLE:
        return Place("the whole image", "whole image")
    vertical, horizontal = _side(region, 0), _side(region, 1)
    if _surrounds(region):
        return Place("the border all around", "all around")
    rows = {-1: "upper", 0: "", 1: "lower"}[vertical.towards]
    columns = {-1: "left", 0: "", 1: "right"}[horizontal.towards]
    named = " ".join(word for word in (rows, columns) if word)
    if not named:
        return Place("the centre", "inside")
    touches = [side.touches for side in (vertical, horizontal) if side.towards]
    if len(touches) == 2 and all(touches):
        return Place(f"the {named} corner", "corner")
    if len(touches) == 1 and touches[0]:
        return Place(f"the {named} border", "border")
    return Place(f"the {named} part", "inside")


def border_share(maps: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, " n"]:
    """Share of each map's heat on the frame of an eighth of the side, in [0, 1].

    NaN where a map has no heat. A map without a preference has 0.44.
    """
    weights = np.ones(maps.shape[1:])
    for axis, length in enumerate(maps.shape[1:]):
        inner = _inner(length)
        weights = weights * (inner[:, None] if axis == 0 else inner[None])
    total = maps.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (maps * (1 - weights)).sum((1, 2)) / total, np.nan)


@dataclass(frozen=True)
class _Side:
    """Towards the start (-1) or the end (1) of an axis, and whether the edge there is touched."""

    towards: int
    touches: bool


def _side(region: Bool[np.ndarray, "h w"], axis: int) -> _Side:
    length = region.shape[axis]
    middle = float((np.nonzero(region)[axis] + 0.5).mean()) / length
    if middle <= OUTER:
        return _Side(-1, bool(region.take(0, axis).any()))
    if middle >= 1 - OUTER:
        return _Side(1, bool(region.take(-1, axis).any()))
    return _Side(0, False)


def _surrounds(region: Bool[np.ndarray, "h w"]) -> bool:
    """Whether a region touches opposite edges and leaves the middle of the image free."""
    height, width = region.shape
    middle = region[height // 3 : height - height // 3, width // 3 : width - width // 3]
    edges = (region[0], region[-1], region[:, 0], region[:, -1])
    upper, lower, left, right = (bool(edge.any()) for edge in edges)
    opposite = (upper and lower) or (left and right)
    balanced = not any(_side(region, axis).towards for axis in (0, 1))
    return opposite and balanced and not middle.any()


def _inner(length: int) -> Float[np.ndarray, " n"]:
    """The share of each of so many cells along an axis that lies inside the frame."""
    edges = np.linspace(0, 1, length + 1)
    low, high = np.maximum(edges[:-1], FRAME), np.minimum(edges[1:], 1 - FRAME)
    return np.asarray(np.clip(high - low, 0, None) * length)
