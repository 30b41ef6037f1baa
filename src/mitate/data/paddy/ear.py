"""The panicle: a nodding axis, short branches and grains; and its bacterial blight."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw

from mitate.data.paddy.canvas import Canvas, flat, mix, ramp, smooth
from mitate.data.paddy.scene import Panicle

Points = Float[np.ndarray, "points 2"]
Twig = Float[np.ndarray, "2 2"]
Each = Float[np.ndarray, " grains"]
Windows = Float[np.ndarray, "grains rows columns"]
STEM = (0.52, 0.62, 0.28)
YOUNG, RIPE = (0.50, 0.64, 0.27), (0.84, 0.69, 0.33)
PER_TWIG = 5
SLIMNESS = 0.19


@dataclass(frozen=True)
class Grains:
    """Each grain's foot (x, y) and direction, and the length of all; in sides."""

    foot: Float[np.ndarray, "grains 2"]
    angle: Each
    length: float


def paint_panicle(canvas: Canvas, panicle: Panicle, rng: np.random.Generator, sick: Each) -> None:
    """Paint an ear; sick tells for each grain whether it is blighted (1) or sound (0)."""
    axis, heading = rachis(panicle)
    grains, twigs = hang(panicle, axis, heading, rng)
    paint_stems(canvas, axis, twigs)
    paint_grains(canvas, panicle, grains, rng, sick)


def rachis(panicle: Panicle) -> tuple[Points, Float[np.ndarray, " points"]]:
    """The axis from the neck to the tip, and its direction at each point: it nods at the end."""
    part = np.linspace(0, 1, 48)
    heading = panicle.angle + panicle.nod * part**2.2
    step = panicle.length / 48
    x = panicle.foot[0] + np.cumsum(np.sin(heading)) * step
    y = panicle.foot[1] - np.cumsum(np.cos(heading)) * step
    return np.stack([x, y], axis=1), heading


def hang(
    panicle: Panicle, axis: Points, heading: Float[np.ndarray, " points"], rng: np.random.Generator
) -> tuple[Grains, list[Twig]]:
    """Grains in pairs along short branches off the axis's upper part."""
    number = np.arange(panicle.grains)
    twig, step = number // PER_TWIG, number % PER_TWIG
    place = 1 - 0.62 * ((twig + 0.5) / (twig.max() + 1)) ** 0.9
    at = np.minimum((place * 47).astype(int), 47)
    hand = np.where(twig % 2, 1.0, -1.0)
    lean = heading[at] + hand * (0.36 + rng.normal(0, 0.06, twig.max() + 1)[twig])
    out = panicle.grain_length * (0.25 + 0.62 * step)
    foot = axis[at] + np.stack([np.sin(lean), -np.cos(lean)], axis=1) * out[:, None]
    splay = np.where(number % 2, 0.3, -0.3) + rng.normal(0, 0.12, panicle.grains)
    last = slice(PER_TWIG - 1, None, PER_TWIG)
    twigs = [np.stack([axis[a], end]) for a, end in zip(at[last], foot[last], strict=True)]
    return Grains(foot, lean + splay, panicle.grain_length), twigs


def paint_stems(canvas: Canvas, axis: Points, twigs: list[Twig]) -> None:
    """The axis and its branches: thin pale green lines."""
    image = Image.new("L", (canvas.side, canvas.side))
    pen = ImageDraw.Draw(image)
    unit = canvas.side / 128
    for stem, width in [(axis, 2.6), *((twig, 1.2) for twig in twigs)]:
        points = [(float(x), float(y)) for x, y in stem * canvas.side]
        pen.line(points, fill=255, width=max(1, round(width * unit)))
    cover = np.asarray(image).ravel()
    pixels = np.flatnonzero(cover)
    canvas.paint(pixels, flat(STEM, len(pixels)), cover[pixels].astype(np.float32) / 255)


def paint_grains(
    canvas: Canvas, panicle: Panicle, grains: Grains, rng: np.random.Generator, sick: Each
) -> None:
    """Paint grain over grain, each a lance-shaped husk with a ridge and a shadow."""
    corner, along, across = windows(canvas.side, grains)
    width = np.sqrt(np.clip(np.sin(np.pi * np.clip(along, 0.02, 1) ** 0.85), 0.02, 1))
    edge = (width - np.abs(across)) * np.float32(grains.length * SLIMNESS * canvas.side)
    cover = np.clip(edge + 0.5, 0, 1) * ((along > 0) & (along < 1))
    shadow = 1 - 0.3 * smooth(-2.5, 0.5, edge)
    ink = husks(panicle, along, across, rng, sick) * cover
    clear = 1 - cover
    shadow *= clear
    picture, plant, symptom = canvas.squares()
    for i in range(panicle.grains):
        seen = cut(canvas.side, corner[i], cover.shape[1:])
        if seen is not None:
            outer, inner = seen
            lay(picture[:, *outer], shadow[i][inner], ink[:, i, *inner])
            lay(plant[outer], clear[i][inner], cover[i][inner])
            lay(symptom[outer], clear[i][inner], cover[i][inner] * sick[i])


def windows(side: int, grains: Grains) -> tuple[Int[np.ndarray, "grains 2"], Windows, Windows]:
    """A small window around each grain, and where its pixels lie on the grain.

    Gives the windows' first row and column, how far along the grain from foot to tip in [0, 1],
    and how far across it in [-1, 1].
    """
    heading = np.stack([np.sin(grains.angle), -np.cos(grains.angle)], axis=1)
    middle = (grains.foot + heading * grains.length / 2) * side
    reach = int(np.ceil(grains.length * side * 0.56))
    corner = np.floor(middle).astype(np.intp) - reach
    span = np.arange(2 * reach + 1, dtype=np.float32) + np.float32(0.5)
    start = (corner - grains.foot * side).astype(np.float32)
    dx = (span + start[:, :1])[:, None, :] / np.float32(grains.length * side)
    dy = (span + start[:, 1:])[:, :, None] / np.float32(grains.length * side)
    sine, cosine = (heading * (1, -1)).T.astype(np.float32)[:, :, None, None]
    return corner[:, ::-1], dx * sine - dy * cosine, (dx * cosine + dy * sine) / SLIMNESS


def husks(
    panicle: Panicle, along: Windows, across: Windows, rng: np.random.Generator, sick: Each
) -> Float[np.ndarray, "3 grains rows columns"]:
    """The colours of all grains: green when young, golden when ripe; or blighted."""
    tone = rng.normal(1, 0.07, panicle.grains).astype(np.float32)
    spread = panicle.ripeness + rng.normal(0, 0.12, panicle.grains)
    ripe = np.clip(spread, 0, 1).astype(np.float32)
    base = mix(flat(YOUNG, panicle.grains), RIPE, ripe)
    colour = base[:, :, None, None] * (np.float32(0.9) + np.float32(0.16) * along)
    bad = np.flatnonzero(sick)
    colour[:, bad] = blighted(along[bad] - 0.1 * (ripe[bad] - 0.5)[:, None, None])
    ridge = np.float32(1.1) - np.float32(0.3) * (across - np.float32(0.25)) ** 2
    colour *= ridge * tone[:, None, None]
    return np.asarray(colour)


def blighted(along: Windows) -> Float[np.ndarray, "3 grains rows columns"]:
    """A blighted floret: light brown below, a red-brown band, straw to grey above."""
    stops = [
        (0.0, (0.60, 0.47, 0.31), 1.0),
        (0.28, (0.53, 0.39, 0.25), 1.0),
        (0.42, (0.40, 0.25, 0.16), 1.0),
        (0.54, (0.78, 0.69, 0.52), 1.0),
        (1.0, (0.82, 0.76, 0.62), 1.0),
    ]
    return ramp(along.ravel(), stops)[0].reshape(3, *along.shape)


def cut(
    side: int, corner: Int[np.ndarray, "2"], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """A window's part of the picture, and the picture's part of the window; None outside."""
    top, left = int(corner[0]), int(corner[1])
    bottom, right = min(side, top + shape[0]), min(side, left + shape[1])
    if bottom <= max(0, top) or right <= max(0, left):
        return None
    outer = (slice(max(0, top), bottom), slice(max(0, left), right))
    return outer, (slice(max(0, -top), bottom - top), slice(max(0, -left), right - left))


def lay(under: np.ndarray, kept: np.ndarray, over: np.ndarray) -> None:
    """Composite in place."""
    under *= kept
    under += over
