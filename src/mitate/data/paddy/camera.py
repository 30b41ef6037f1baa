"""Light and lens: from painted pixels to a photo with its mask."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from mitate.data.paddy.canvas import Canvas, Colour, Values, noise

BACKGROUND, PLANT, SYMPTOM = 0, 1, 2


@dataclass(frozen=True)
class Shot:
    """How a photo is taken. Nothing in it looks at the picture, as auto-exposure would."""

    gain: Colour
    contrast: float
    dapple: float
    vignette: float
    blur: float
    noise: float
    seed: int


def set_up(rng: np.random.Generator) -> Shot:
    """A hand-held camera at some hour of the day."""
    warmth, exposure = rng.normal(0, 0.04), rng.uniform(0.92, 1.25)
    red, green, blue = exposure * np.asarray([1 + warmth, 1.0, 1 - warmth])
    return Shot(
        gain=(float(red), float(green), float(blue)),
        contrast=float(rng.uniform(0.9, 1.15)),
        dapple=float(rng.uniform(0.0, 0.16)),
        vignette=float(rng.uniform(0.0, 0.22)),
        blur=float(rng.choice([0.0, rng.uniform(0.2, 0.55)])),
        noise=float(rng.uniform(1.0, 4.5)),
        seed=int(rng.integers(2**62)),
    )


def shoot(shot: Shot, canvas: Canvas, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Expose the canvas: light, tone, blur of the lens, noise of the sensor."""
    rng = np.random.default_rng(shot.seed)
    lit = light(shot, rng, size)
    bands = [
        develop(shrink(channel, size) * (gain * lit), shot.contrast)
        for channel, gain in zip(canvas.colour, shot.gain, strict=True)
    ]
    image = Image.merge("RGB", bands)
    if shot.blur:
        image = image.filter(ImageFilter.GaussianBlur(shot.blur * size / 128))
    grain = rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(shot.noise)
    return np.clip(np.asarray(image, np.float32) + grain + 0.5, 0, 255).astype(np.uint8)


def develop(exposed: Float[np.ndarray, "size size"], contrast: float) -> Image.Image:
    """One colour of the photo, after the tone curve."""
    toned = (exposed - 0.45) * contrast + 0.45
    return Image.fromarray((np.clip(toned, 0, 1) * 255).astype(np.uint8))


def light(shot: Shot, rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size"]:
    """Sun through leaves, and the lens's darker corners."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    corners = shot.vignette * (line[:, None] ** 2 + line[None, :] ** 2) / 2
    return 1 + shot.dapple * noise(rng, (5, 5), (size, size)) - corners


def label(canvas: Canvas, size: int) -> UInt8[np.ndarray, "size size"]:
    """The mask: each pixel is what covers at least half of it."""
    mask = np.full((size, size), BACKGROUND, np.uint8)
    mask[shrink(canvas.plant, size) >= 0.5] = PLANT
    mask[shrink(canvas.symptom, size) >= 0.5] = SYMPTOM
    return mask


def shrink(values: Values, size: int) -> Float[np.ndarray, "size size"]:
    """The mean over each pixel of the photo."""
    side = round(len(values) ** 0.5)
    step = side // size
    square = values.reshape(side, side)
    total = np.zeros((size, size), np.float32)
    for row in range(step):
        for column in range(step):
            total += square[row::step, column::step]
    total /= step**2
    return total
