"""The picture while it is painted: colours, and how much of a pixel is plant and symptom."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

Colour = tuple[float, float, float]
Pixels = Int[np.ndarray, " pixels"]
Values = Float[np.ndarray, " pixels"]
Colours = Float[np.ndarray, "3 pixels"]
Square = Float[np.ndarray, "side side"]
Square3 = Float[np.ndarray, "3 side side"]


class Canvas:
    """A square of pixels, each with a colour in [0, 1] and its shares of plant and symptom.

    Args:
        colour: the backdrop, (3, side * side).
    """

    def __init__(self, colour: Colours) -> None:
        self.side = round(colour.shape[1] ** 0.5)
        self.colour = colour
        self.plant = np.zeros(colour.shape[1], np.float32)
        self.symptom = np.zeros(colour.shape[1], np.float32)

    def squares(self) -> tuple[Square3, Square, Square]:
        """Colour, plant and symptom as squares that share the canvas's memory."""
        square = (self.side, self.side)
        return (
            self.colour.reshape(3, *square),
            self.plant.reshape(square),
            self.symptom.reshape(square),
        )

    def paint(
        self, pixels: Pixels, colour: Colours, cover: Values, symptom: Values | float = 0.0
    ) -> None:
        """Lay plant over the pixels; what it hides no longer counts as plant or symptom."""
        self.tint(pixels, colour, cover)
        clear = 1 - cover
        self.plant[pixels] = self.plant[pixels] * clear + cover
        self.symptom[pixels] = self.symptom[pixels] * clear + cover * symptom

    def tint(self, pixels: Pixels, colour: Colours | Colour, cover: Values) -> None:
        """Change the colour alone: shadows, drops and dirt are neither plant nor symptom."""
        for channel, over in zip(self.colour, colour, strict=True):
            under = channel[pixels]
            channel[pixels] = under + (over - under) * cover

    def shade(self, pixels: Pixels, depth: Values) -> None:
        """Darken by a share, as a shadow does."""
        light = 1 - depth
        for channel in self.colour:
            channel[pixels] *= light


@lru_cache(maxsize=4)
def grid(side: int) -> tuple[Values, Values]:
    """The pixels' centres, x to the right and y down, in units of the picture's side."""
    line = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / side
    y, x = np.meshgrid(line, line, indexing="ij")
    return x.ravel(), y.ravel()


def noise(
    rng: np.random.Generator, cells: tuple[int, int], size: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """Smooth noise in about [-1, 1]: rows x columns of random cells, enlarged to size."""
    coarse = rng.random(cells, dtype=np.float32) * 2 - 1
    image = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image)


def ramp(level: Values, stops: Sequence[tuple[float, Colour, float]]) -> tuple[Colours, Values]:
    """Colour and opacity at each level, linear between stops of (level, colour, opacity)."""
    at = [stop[0] for stop in stops]
    table = np.array([(*colour, opacity) for _, colour, opacity in stops]).T
    fine = np.linspace(at[0], at[-1], 256)
    rows = np.stack([np.interp(fine, at, row) for row in table]).astype(np.float32)
    index = np.clip((level - at[0]) * (255 / (at[-1] - at[0])), 0, 255).astype(np.uint8)
    found = rows[:, index]
    return found[:3], found[3]


def mix(first: Colours, second: Colours | Colour, share: Values) -> Colours:
    """The first colour with a share of the second."""
    over = np.asarray(second, np.float32)
    mixed: Colours = first + ((over if over.ndim == 2 else over[:, None]) - first) * share
    return mixed


def flat(colour: Colour, count: int) -> Colours:
    """One colour on so many pixels."""
    return np.repeat(np.array(colour, np.float32)[:, None], count, axis=1)


def smooth(
    edge: float, top: float, value: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """The smooth step: 0 up to edge, 1 from top on; falling where top is below edge."""
    t = np.clip((value - edge) / (top - edge), 0, 1)
    return t * t * (3 - 2 * t)
