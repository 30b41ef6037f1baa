"""Diseases that discolour whole parts of a leaf, from its tip or its margins."""

import numpy as np

from mitate.data.paddy.canvas import Values, mix, noise, ramp, smooth
from mitate.data.paddy.leaf import Surface
from mitate.data.paddy.marks import Marks, level, scatter
from mitate.data.paddy.spots import Symptom, textured


def bacterial_leaf_blight(surface: Surface, rng: np.random.Generator) -> Symptom:
    """Straw-coloured stripes down the margins from the tip, with a wavy yellow front."""
    tip = float(surface.along.max())
    start = tip - rng.uniform(0.55, 0.95)
    rise = smooth(start, tip - 0.15, surface.along)
    depth_left = wavy(surface, rng) * rise * rng.uniform(0.85, 1.3)
    depth_right = wavy(surface, rng) * rise * float(rng.choice([0.2, 0.8, 1.1]))
    left = (1 + surface.across) / np.maximum(depth_left, 1e-3)
    right = (1 - surface.across) / np.maximum(depth_right, 1e-3)
    stops = [
        (0.0, (0.84, 0.80, 0.68), 1.0),
        (0.45, (0.86, 0.77, 0.52), 1.0),
        (0.8, (0.84, 0.71, 0.32), 1.0),
        (1.0, (0.78, 0.74, 0.22), 0.8),
        (1.22, (0.62, 0.70, 0.20), 0.0),
    ]
    front = np.minimum(left, right) + 0.1 * surface.texture
    colour, opacity = ramp(front, stops)
    return textured(surface, colour, opacity * (rise > 0))


def wavy(surface: Surface, rng: np.random.Generator) -> Values:
    """A depth from the margin that waves along the leaf."""
    line = (
        1 + 0.45 * noise(rng, (10, 1), (320, 1))[:, 0] + 0.22 * noise(rng, (34, 1), (320, 1))[:, 0]
    )
    depth: Values = line[np.clip(surface.along * 200, 0, 319).astype(np.intp)]
    return depth


def tungro(surface: Surface, rng: np.random.Generator) -> Symptom:
    """Yellow to orange from the tip downward, the veins greener, with rusty specks."""
    tip = float(surface.along.max())
    start = tip - rng.uniform(0.5, 1.0)
    depth = surface.along - start + 0.05 * surface.texture
    stops = [
        (0.0, (0.74, 0.76, 0.18), 0.0),
        (0.12, (0.86, 0.76, 0.14), 0.75),
        (0.4, (0.92, 0.68, 0.10), 0.92),
        (0.85, (0.88, 0.50, 0.10), 0.96),
    ]
    colour, opacity = ramp(depth, stops)
    vein = np.cos(surface.across * surface.reach * np.float32(6.283 * 42))
    opacity = opacity * (1 - 0.22 * np.clip(vein, 0, 1))
    rust = smooth(1.0, 0.5, level(surface, specks(surface, rng), rough=0.1))
    return textured(surface, mix(colour, (0.52, 0.24, 0.06), 0.8 * rust), opacity)


def specks(surface: Surface, rng: np.random.Generator) -> Marks:
    """Small rusty specks."""
    count = int(rng.integers(4, 12))
    along, across = scatter(surface, rng, count)
    size = rng.uniform(0.005, 0.009, count)
    return Marks(along, across, size * 2, size, np.zeros(count))
