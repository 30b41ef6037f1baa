"""What lies behind the plant, out of focus: field, mud, water or sky."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mitate.data.paddy.canvas import Colours, noise

SMALL = 64
PALETTES = {
    "field": ((28, 46, 20), (62, 92, 36), (104, 132, 62), (150, 168, 96)),
    "mud": ((64, 50, 38), (96, 78, 58), (124, 104, 80), (80, 66, 50)),
    "water": ((92, 104, 104), (132, 148, 150), (176, 190, 194), (84, 98, 84)),
    "sky": ((172, 196, 218), (198, 214, 226), (222, 230, 234), (128, 156, 130)),
}
ODDS = (0.42, 0.22, 0.2, 0.16)


def backdrop(rng: np.random.Generator, side: int) -> Colours:
    """A blurred background, (3, side * side) in [0, 1]."""
    kind = str(rng.choice(list(PALETTES), p=ODDS))
    palette = np.asarray(PALETTES[kind], np.float32)
    image = wash(rng, palette)
    strokes(rng, image)
    discs(rng, image, palette)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 3.0)))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    colour = np.stack([np.asarray(band, np.float32).ravel() for band in image.split()]) / 255
    if kind == "mud":
        colour *= 1 + 0.16 * noise(rng, (72, 72), (side, side)).ravel()
    return colour


def wash(rng: np.random.Generator, palette: np.ndarray) -> Image.Image:
    """Clouds of the palette's first three colours, graded from one side to the other."""
    down = np.linspace(-0.8, 0.8, SMALL, dtype=np.float32)[:, None] * rng.choice([-1, 1])
    cloud = noise(rng, (4, 4), (SMALL, SMALL)) + 0.5 * noise(rng, (10, 10), (SMALL, SMALL)) + down
    share = np.clip(1 + cloud, 0, 1.999)
    low = share.astype(np.intp)
    part = (share - low)[:, :, None]
    return Image.fromarray((palette[low] * (1 - part) + palette[low + 1] * part).astype(np.uint8))


def strokes(rng: np.random.Generator, image: Image.Image) -> None:
    """Leaves and stems far out of focus."""
    pen = ImageDraw.Draw(image)
    greens = ((70, 104, 42), (96, 132, 58), (48, 78, 30), (128, 150, 78))
    for _ in range(rng.integers(5, 14)):
        x, lean = rng.uniform(-10, SMALL + 10), rng.normal(0, 15)
        top = rng.uniform(-10, SMALL * 0.6)
        colour = greens[rng.integers(4)]
        line = [(x, SMALL + 4), (x + lean * 0.5, (SMALL + top) / 2), (x + lean * 1.3, top)]
        pen.line(line, fill=colour, width=int(rng.integers(1, 5)))


def discs(rng: np.random.Generator, image: Image.Image, palette: np.ndarray) -> None:
    """Points of light that the lens spreads to discs."""
    if rng.random() < 0.45:
        return
    pen = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.integers(3, 12)):
        x, y = rng.uniform(0, SMALL, 2)
        radius = rng.uniform(2, 5)
        red, green, blue = (int(v) for v in np.minimum(palette[3] * rng.uniform(1.0, 1.35), 255))
        shape = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(shape, fill=(red, green, blue, int(rng.integers(40, 110))))
