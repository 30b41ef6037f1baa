"""Diseases that mark the leaf with separate spots or streaks: what each looks like.

Every function gives, for each pixel of a leaf, the colour of the symptom and its opacity.
Sources stand in docs/simulated-paddy.md.
"""

import numpy as np

from mitate.data.paddy.canvas import Colours, Values, flat, mix, noise, ramp, smooth
from mitate.data.paddy.leaf import Surface
from mitate.data.paddy.marks import Marks, level, scatter

Symptom = tuple[Colours, Values]


def blast(surface: Surface, rng: np.random.Generator) -> Symptom:
    """Spindles with pointed ends: an ashen centre, a brown margin, a thin yellow rim."""
    count = int(rng.integers(3, 7))
    along, across = scatter(surface, rng, count, room=0.55)
    half_length = rng.uniform(0.07, 0.125, count)
    spindles = Marks(
        along,
        across,
        half_length,
        half_length * rng.uniform(0.3, 0.4, count),
        rng.choice([0.0, 0.4], count, p=[0.9, 0.1]),
        pointed=1.15,
    )
    stops = [
        (0.0, (0.84, 0.82, 0.77), 1.0),
        (0.5, (0.76, 0.73, 0.67), 1.0),
        (0.64, (0.45, 0.31, 0.19), 1.0),
        (0.85, (0.39, 0.25, 0.14), 1.0),
        (0.98, (0.60, 0.49, 0.17), 0.85),
        (1.2, (0.70, 0.66, 0.20), 0.0),
    ]
    return textured(surface, *ramp(level(surface, spindles, rough=0.09), stops))


def brown_spot(surface: Surface, rng: np.random.Generator) -> Symptom:
    """Small ovals scattered evenly: brown, the larger with a paler centre, in a yellow halo."""
    count = int(rng.integers(20, 36))
    along, across = scatter(surface, rng, count)
    half_width = rng.gamma(6.0, 0.0019, count) + 0.0075
    ovals = Marks(
        along,
        across,
        half_width * rng.uniform(1.15, 1.7, count),
        half_width,
        np.clip(1.15 - half_width / 0.021, 0, 0.6),
    )
    stops = [
        (0.0, (0.62, 0.50, 0.36), 1.0),
        (0.2, (0.47, 0.33, 0.19), 1.0),
        (0.5, (0.33, 0.21, 0.12), 1.0),
        (0.75, (0.35, 0.22, 0.12), 1.0),
        (1.0, (0.72, 0.62, 0.20), 0.8),
        (1.8, (0.74, 0.72, 0.24), 0.0),
    ]
    return textured(surface, *ramp(level(surface, ovals, rough=0.1), stops))


def bacterial_leaf_streak(surface: Surface, rng: np.random.Generator) -> Symptom:
    """Narrow straight streaks between the veins, translucent amber to orange-brown."""
    count = int(rng.integers(10, 20))
    along, across = scatter(surface, rng, count, room=0.9)
    streaks = Marks(
        along,
        across,
        rng.gamma(3.0, 0.022, count) + 0.03,
        rng.uniform(0.006, 0.0105, count),
        np.zeros(count),
        pointed=5.0,
    )
    stops = [
        (0.0, (0.80, 0.66, 0.34), 0.95),
        (0.5, (0.70, 0.52, 0.24), 0.95),
        (0.9, (0.56, 0.41, 0.17), 0.85),
        (1.25, (0.66, 0.61, 0.18), 0.45),
        (1.8, (0.66, 0.66, 0.20), 0.0),
    ]
    return textured(surface, *ramp(level(surface, streaks, rough=0.12), stops))


def hispa(surface: Surface, rng: np.random.Generator) -> Symptom:
    """White scrapes in parallel bundles where beetles fed, and pale blisters of the grubs."""
    scrapes = level(surface, bundles(surface, rng, int(rng.integers(5, 9))), rough=0.15)
    blisters = level(surface, mines(surface, rng, int(rng.integers(0, 3))), rough=0.22)
    white, opacity = ramp(
        np.minimum(scrapes, blisters + 0.1),
        [
            (0.0, (0.95, 0.95, 0.88), 0.97),
            (0.7, (0.88, 0.89, 0.78), 0.9),
            (1.0, (0.80, 0.83, 0.66), 0.6),
            (1.3, (0.70, 0.76, 0.50), 0.0),
        ],
    )
    return textured(surface, white, opacity)


def bundles(surface: Surface, rng: np.random.Generator, count: int) -> Marks:
    """Bundles of three to six scrapes side by side, each along the veins."""
    along, across = scatter(surface, rng, count, room=0.7)
    sizes = rng.integers(3, 7, count)
    owner = np.repeat(np.arange(count), sizes)
    lane = np.concatenate([np.arange(size) - size / 2 for size in sizes])
    total = len(owner)
    return Marks(
        along[owner] + rng.normal(0, 0.018, total),
        across[owner] + lane * 0.0170,
        rng.uniform(0.025, 0.075, total),
        rng.uniform(0.0050, 0.0070, total),
        np.zeros(total),
        pointed=4.0,
    )


def mines(surface: Surface, rng: np.random.Generator, count: int) -> Marks:
    """The grubs' blisters: longer and broader than a scrape."""
    along, across = scatter(surface, rng, count, room=0.6)
    return Marks(
        along,
        across,
        rng.uniform(0.05, 0.09, count),
        rng.uniform(0.018, 0.032, count),
        np.zeros(count),
        pointed=3.0,
    )


def downy_mildew(surface: Surface, rng: np.random.Generator) -> Symptom:
    """Round yellow-white specks in rows along the veins, in pale mottled patches."""
    count = int(rng.integers(60, 110))
    along, across = scatter(surface, rng, count, room=0.92)
    size = rng.gamma(6.0, 0.0011, count) + 0.002
    rows = np.round(across / 0.016) * 0.016
    long = size * rng.uniform(1.0, 2.6, count)
    specks = level(surface, Marks(along, rows, long, size, np.zeros(count)), rough=0.25)
    colour, opacity = ramp(
        specks,
        [
            (0.0, (0.95, 0.94, 0.68), 1.0),
            (0.6, (0.92, 0.91, 0.60), 0.9),
            (1.9, (0.80, 0.83, 0.42), 0.0),
        ],
    )
    patch = 0.62 * smooth(-0.1, 0.25, mottle(surface, rng))
    pale = np.maximum(opacity, patch)
    return textured(surface, mix(flat((0.72, 0.79, 0.36), len(patch)), colour, opacity), pale)


def mottle(surface: Surface, rng: np.random.Generator) -> Values:
    """Blotches of a leaf that lose their green, in about [-1, 1]."""
    tile = noise(rng, (14, 5), (320, 40))
    rows = np.clip(surface.along * 200, 0, 319).astype(np.intp)
    columns = np.clip((surface.across + 1) * 20, 0, 39).astype(np.intp)
    values: Values = tile[rows, columns]
    return values


def textured(surface: Surface, colour: Colours, opacity: Values) -> Symptom:
    """The symptom's colour with the leaf's own grain and relief left in it."""
    return colour * (1 + 0.10 * surface.texture), opacity
