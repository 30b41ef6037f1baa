"""Many small marks on one leaf: how deep inside the nearest of them each pixel lies."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mitate.data.paddy.canvas import Values
from mitate.data.paddy.leaf import Surface

OUTSIDE = 9.0
Each = Float[np.ndarray, "marks"]


@dataclass(frozen=True)
class Marks:
    """Marks on a leaf: centres (along and across it) and half sizes, all in sides.

    pointed is the power of the distance along: 1 gives a spindle with sharp ends, 2 an oval,
    4 a streak with blunt ends. youth in [0, 1] is added to the level: a young mark has only
    the colours of an old one's margin.
    """

    along: Each
    across: Each
    half_length: Each
    half_width: Each
    youth: Each
    pointed: float = 2.0

    def each(self) -> Iterator["Mark"]:
        """The marks one by one, as Python floats, which leave float32 pixels float32."""
        rows = (self.along, self.across, self.half_length, self.half_width, self.youth)
        return (Mark(*row) for row in zip(*(np.asarray(r).tolist() for r in rows), strict=True))


@dataclass(frozen=True)
class Mark:
    """One mark on a leaf; see Marks."""

    along: float
    across: float
    half_length: float
    half_width: float
    youth: float

    def inside(self, along: Values, across: Values, pointed: float) -> Values:
        """How far out from the middle (0) to the edge (1) these places lie."""
        far = np.abs(along - self.along) * (1 / self.half_length)
        wide = np.abs(across - self.across) * (1 / self.half_width)
        depth = far**pointed + (wide * wide if pointed > 1.5 else wide)
        return depth + self.youth * (1 - np.minimum(depth, 1)) if self.youth else depth


def scatter(
    surface: Surface, rng: np.random.Generator, count: int, room: float = 0.85
) -> tuple[Each, Each]:
    """Centres spread evenly over what is seen of a leaf, off its margins by room."""
    inner = np.flatnonzero(np.abs(surface.across) < room)
    if not len(inner):
        inner = np.arange(len(surface.along))
    picked = inner[rng.integers(len(inner), size=count)]
    return surface.along[picked], surface.across[picked] * surface.reach[picked]


def level(surface: Surface, marks: Marks, rough: float = 0.0) -> Values:
    """0 at the middle of a mark, 1 at its edge, larger outside; overlapping marks run together."""
    # sixteen-bit keys are sorted by counting, which is several times faster
    order = np.argsort((surface.along * 20000).astype(np.uint16), kind="stable")
    along = surface.along[order]
    across = (surface.across * surface.reach)[order]
    nearest = np.full(len(along), OUTSIDE, np.float32)
    first = np.searchsorted(along, marks.along - marks.half_length * 1.3)
    last = np.searchsorted(along, marks.along + marks.half_length * 1.3)
    for mark, start, stop in zip(marks.each(), first, last, strict=True):
        part = nearest[start:stop]
        inside = mark.inside(along[start:stop], across[start:stop], marks.pointed)
        np.minimum(part, inside, out=part)
    unsorted = np.empty_like(nearest)
    unsorted[order] = nearest
    return unsorted + np.float32(rough) * surface.texture
