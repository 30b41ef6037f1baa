"""What lies on healthy and sick leaves alike: soil, drops, dew, holes. None is a symptom."""

import numpy as np

from mitate.data.paddy.canvas import Canvas, Values, smooth
from mitate.data.paddy.leaf import Surface
from mitate.data.paddy.marks import Marks, level, scatter

LIGHT = (1.0, 1.0, 1.0)


def holes(surface: Surface, rng: np.random.Generator, count: int) -> Values:
    """How much of each pixel is left where insects bit through the leaf."""
    along, across = scatter(surface, rng, count, room=0.75)
    size = rng.uniform(0.009, 0.018, count)
    bites = Marks(along, across, size * rng.uniform(1, 1.8, count), size, np.zeros(count))
    return smooth(0.8, 1.15, level(surface, bites, rough=0.2))


def soil(canvas: Canvas, surface: Surface, rng: np.random.Generator) -> None:
    """Dark crumbs that rain splashed up, without halo."""
    count = int(rng.integers(1, 7))
    along, across = scatter(surface, rng, count, room=0.95)
    size = rng.uniform(0.003, 0.006, count)
    crumbs = Marks(along, across, size * rng.uniform(0.8, 1.3, count), size, np.zeros(count))
    cover = smooth(1.1, 0.6, level(surface, crumbs, rough=0.35)) * surface.cover
    canvas.tint(surface.pixels, (0.24, 0.19, 0.15), 0.9 * cover)


def drops(canvas: Canvas, surface: Surface, rng: np.random.Generator) -> None:
    """Drops of water or dew: a dark rim, a clear body and a point of light."""
    count = int(rng.integers(2, 12))
    along, across = scatter(surface, rng, count)
    size = rng.uniform(0.006, 0.017, count)
    still = np.zeros(count)
    body = level(surface, Marks(along, across, size * 1.15, size, still))
    glint = level(
        surface, Marks(along + size * 0.35, across - size * 0.3, size * 0.4, size * 0.4, still)
    )
    rim = np.exp(-(((body - 0.85) / 0.25) ** 2)) * surface.cover
    canvas.shade(surface.pixels, 0.35 * rim)
    canvas.tint(surface.pixels, LIGHT, 0.14 * smooth(0.9, 0.4, body) * surface.cover)
    canvas.tint(surface.pixels, LIGHT, 0.95 * smooth(1.2, 0.6, glint) * surface.cover)
