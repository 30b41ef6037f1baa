"""A rice leaf: a long lance with a pale midrib, parallel veins and a fold along the middle."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from mitate.data.paddy.canvas import (
    Canvas,
    Colour,
    Colours,
    Pixels,
    Values,
    grid,
    mix,
    noise,
    smooth,
)

STRAW: Colour = (0.76, 0.66, 0.45)
MIDRIB: Colour = (0.74, 0.80, 0.54)
SKY: Colour = (0.90, 0.94, 0.92)
TAPER = 0.75
Profile = Float[np.ndarray, "256"]
ACROSS: Profile = np.linspace(-1, 1, 256, dtype=np.float32)
SHADOW = (0.85, 1.35)
BLOCK = 8


@dataclass(frozen=True)
class Blade:
    """One ribbon: where it starts, which way it grows and how it looks. Lengths are in sides."""

    base: tuple[float, float]
    angle: float
    length: float
    half_width: float
    bend: float
    root_colour: Colour
    tip_colour: Colour
    fold: float = 0.12
    gloss: float = 0.2
    gloss_at: float = 0.3
    light_at: float = 0.0
    softness: float = 1.0
    dry_tip: float = 0.0
    holes: int = 0
    rolled: bool = False


@dataclass(frozen=True)
class Surface:
    """The pixels of a blade in the blade's own coordinates.

    along runs from the base to the tip in sides, across from -1 to 1 between the margins;
    reach is the half width there in sides, texture is noise stretched along the veins.
    """

    pixels: Pixels
    along: Values
    across: Values
    reach: Values
    cover: Values
    texture: Values
    colour: Colours
    length: float


def surface_of(canvas: Canvas, blade: Blade, rng: np.random.Generator) -> Surface:
    """A blade's surface in health, after its shadow has fallen on what lies behind."""
    pixels = near(blade, canvas.side)
    along, offset = own_axes(blade, *(axis[pixels] for axis in grid(canvas.side)))
    reach = blade.half_width * outline(blade, along)
    slope = 2 * blade.bend / blade.length * along
    across = offset / (reach * np.sqrt(1 + slope * slope))
    cast_shadow(canvas, pixels, np.abs(across - 0.15), reach)
    crisp = reach * (canvas.side / blade.softness)
    cover = np.clip((1 - np.abs(across)) * crisp + 0.5, 0, 1) * np.minimum(crisp, 1) * (along > 0)
    inside = np.flatnonzero(cover)
    pixels, along, across, reach, cover = (
        part[inside] for part in (pixels, along, across, reach, cover)
    )
    across = np.clip(across, -1, 1)
    texture = grain(rng, along, across)
    colour = health(blade, along, across, texture)
    return Surface(pixels, along, across, reach, cover, texture, colour, blade.length)


def cast_shadow(canvas: Canvas, pixels: Pixels, beside: Values, reach: Values) -> None:
    """Darken the plant behind, just beside the margins; the far backdrop gets no shadow."""
    dark = np.flatnonzero((beside > SHADOW[0]) & (beside < SHADOW[1]) & (reach > 0.008))
    pixels = pixels[dark]
    depth = smooth(SHADOW[1], SHADOW[0], beside[dark])
    canvas.shade(pixels, (0.06 + 0.38 * canvas.plant[pixels]) * depth)


def near(blade: Blade, side: int) -> Pixels:
    """The pixels that a blade or its shadow may touch, found block by block."""
    members, x, y = blocks(side)
    along, offset = own_axes(blade, x, y)
    wide = 1.7 * blade.half_width + 1.2 * BLOCK / side
    close = (np.abs(offset) < wide) & (along > -0.05) & (along < blade.length + 0.05)
    pixels: Pixels = members[close].ravel()
    return pixels


@lru_cache(maxsize=4)
def blocks(side: int) -> tuple[Int[np.ndarray, "blocks members"], Values, Values]:
    """The picture in small square blocks: the pixels of each, and where its middle is."""
    count = -(-side // BLOCK)
    numbers = np.arange(side * side).reshape(side, side)
    numbers = np.pad(numbers, (0, count * BLOCK - side), mode="edge")
    members = numbers.reshape(count, BLOCK, count, BLOCK).swapaxes(1, 2).reshape(count**2, -1)
    middle = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * BLOCK / side
    y, x = np.meshgrid(middle, middle, indexing="ij")
    return members, x.ravel(), y.ravel()


def own_axes(blade: Blade, x: Values, y: Values) -> tuple[Values, Values]:
    """How far along a blade places lie, and how far to the side of its middle line."""
    sine, cosine = float(np.sin(blade.angle)), float(np.cos(blade.angle))
    x0, y0 = blade.base
    along = x * sine - y * cosine + (y0 * cosine - x0 * sine)
    offset = x * cosine + y * sine - (x0 * cosine + y0 * sine)
    return along, offset - along * along * (blade.bend / blade.length)


def outline(blade: Blade, along: Values) -> Values:
    """The half width along a blade as a share of the widest: parallel margins, a long tip."""
    taper = np.clip((blade.length - along) / (0.9 * TAPER if blade.rolled else TAPER), 0, 1)
    rise = 0.7 + 0.3 * np.clip(along * (3 / blade.length), 0, 1)
    return np.maximum(rise * taper * (1.75 - 0.75 * taper), 1e-3)


def health(blade: Blade, along: Values, across: Values, texture: Values) -> Colours:
    """The colours of a healthy blade."""
    # what varies across alone is tabled: a look-up costs a tenth of the formula
    at = ((across + 1) * 127.5).astype(np.intp)
    swell = np.cos(along * np.float32(4.2) + np.float32(blade.light_at))
    shade = (1 + veins(blade) + relief(blade))[at] + 0.10 * texture + 0.12 * swell
    sky = sheen(blade)[at] * np.clip(0.55 + 0.5 * texture + 0.3 * swell, 0, 1)
    rib = midrib(blade)[at] * (1 - sky)
    shade *= 1 - sky - rib
    tone = smooth(0.1, 1.0, along / blade.length + 0.08 * texture)
    colour = np.empty((3, len(along)), np.float32)
    for i, (root, tip) in enumerate(zip(blade.root_colour, blade.tip_colour, strict=True)):
        colour[i] = (root + (tip - root) * tone) * shade + MIDRIB[i] * rib + SKY[i] * sky
    if blade.dry_tip:
        front = along - (blade.length - blade.dry_tip) + 0.02 * texture
        colour = mix(colour, STRAW, 0.9 * smooth(-0.012, 0.012, front))
    return colour


def grain(rng: np.random.Generator, along: Values, across: Values) -> Values:
    """Noise on a blade, eight times longer than it is wide."""
    sheet = grain_sheet()
    down, right = rng.integers(sheet.shape[0] - 160), rng.integers(sheet.shape[1] - 40)
    rows = (along * 80).astype(np.intp) + down
    values: Values = sheet[rows, ((across + 1) * 19.5).astype(np.intp) + right]
    return values


@lru_cache(maxsize=1)
def grain_sheet() -> Float[np.ndarray, "rows columns"]:
    """One large sheet of grain; each blade shows another piece of it."""
    return noise(np.random.default_rng(0), (256, 128), (1024, 285))


def veins(blade: Blade) -> Profile:
    """Fine parallel veins, as far apart in a narrow blade as in a broad one."""
    profile: Profile = 0.06 * np.cos(ACROSS * np.float32(6.283 * 46 * blade.half_width))
    return profile


def relief(blade: Blade) -> Profile:
    """Light and shade: a keel in an open blade, a cylinder in a rolled one."""
    keel = blade.fold * np.tanh(ACROSS * 9) - 0.16 * ACROSS**6
    profile: Profile = 0.18 - 0.5 * (ACROSS - 0.35) ** 2 if blade.rolled else keel
    return profile


def midrib(blade: Blade) -> Profile:
    """How pale the middle is; a rolled blade hides it."""
    profile: Profile = (0.0 if blade.rolled else 0.55) * np.exp(-178 * ACROSS**2)
    return profile


def sheen(blade: Blade) -> Profile:
    """How much of the sky a blade mirrors, in a band along it."""
    profile: Profile = blade.gloss * np.exp(-9.8 * (ACROSS - blade.gloss_at) ** 2)
    return profile
