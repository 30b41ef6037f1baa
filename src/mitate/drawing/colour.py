"""From values to colours, and colours over a photo."""

from difflib import get_close_matches
from functools import cache

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import Colormap
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mitate.errors import UsageError

# Inferno dims what is not looked at without tinting it, so that green leaves stay green and brown
# lesions brown, and rises evenly in lightness for every kind of sight.
COLORMAP = "inferno"
OPACITY = 0.5
DIVERGING = "coolwarm"
ABSENT = 128
TINT, TINTED = "#00c8ff", 0.6  # no leaf, rust or colormap of ours has it
PREDICTED = "#b4ff00"  # of what a network segments, beside what is true

Picture = Image.Image | NDArray[np.uint8]


def heat(
    values: Float[np.ndarray, "h w"], colormap: str = COLORMAP, *, signed: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """Colours of values in [0, 1], or in [-1, 1] where `signed`; grey where a value is NaN.

    Values beyond the range take the colour of its end.

    Raises:
        UsageError: matplotlib has no colormap of this name.
    """
    scaled = (values + 1) / 2 if signed else values
    known = np.isfinite(scaled)
    colours = colormap_named(colormap)(np.where(known, scaled, 0).clip(0, 1), bytes=True)[..., :3]
    return np.where(known[..., None], colours, ABSENT).astype(np.uint8)


def overlay(
    picture: Picture,
    values: Float[np.ndarray, "h w"],
    *,
    colormap: str = COLORMAP,
    opacity: float = OPACITY,
    signed: bool = False,
) -> Image.Image:
    """The picture under the colours of its map, which may be on a coarser grid.

    Where the map is NaN the picture shows through.

    Args:
        picture: RGB of any size, as a PIL image or uint8 (H, W, 3).
        values: The map in [0, 1], or in [-1, 1] where `signed`.
        colormap: Any name that matplotlib knows.
        opacity: From 0, the picture alone, to 1, the colours alone.
        signed: Whether the map has a negative side.

    Raises:
        UsageError: an unknown colormap, or an opacity outside [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise UsageError(f"opacity {opacity} is not between 0 (photo alone) and 1 (colours alone)")
    photo = as_image(picture)
    fitted = stretch(values, photo.size)
    colours = Image.fromarray(heat(fitted, colormap, signed=signed))
    strength = np.where(np.isfinite(fitted), round(255 * opacity), 0).astype(np.uint8)
    return Image.composite(colours, photo, Image.fromarray(strength))


def tint(picture: Picture, shares: Float[np.ndarray, "h w"]) -> Image.Image:
    """The picture with a region in one colour, as much as each pixel belongs to it.

    Args:
        picture: RGB of any size, as a PIL image or uint8 (H, W, 3).
        shares: In [0, 1], of any size.
    """
    photo = as_image(picture)
    strength = np.rint(255 * TINTED * stretch(shares, photo.size).clip(0, 1)).astype(np.uint8)
    return Image.composite(Image.new("RGB", photo.size, TINT), photo, Image.fromarray(strength))


def outlined(
    picture: Picture, shares: Float[np.ndarray, "h w"], *, colour: str = TINT, away: int = 0
) -> Image.Image:
    """The picture with a line of one pixel around a region, whose own pixels stay as they are.

    Args:
        picture: RGB of any size, as a PIL image or uint8 (H, W, 3).
        shares: In [0, 1], of any size; the region is what has half of the largest or more.
        colour: Of the line.
        away: How many pixels lie between, so that two lines around equal regions are both seen.
    """
    photo = as_image(picture)
    fitted = stretch(shares, photo.size)
    inside = (fitted >= fitted.max() / 2) & (fitted > 0)
    region = Image.fromarray(inside).convert("L")
    within, around = (
        np.asarray(region.filter(ImageFilter.MaxFilter(1 + 2 * wide))) > 0
        for wide in (away, away + 1)
    )
    line = Image.fromarray(around & ~within)
    return Image.composite(Image.new("RGB", photo.size, colour), photo, line)


def stretch(values: Float[np.ndarray, "h w"], size: tuple[int, int]) -> NDArray[np.float32]:
    """Values resized bilinearly to (width, height); a NaN stays within its own cells."""
    known = np.isfinite(values)
    total = _resize(np.where(known, values, 0), size)
    if known.all():
        return total
    weight = _resize(known, size)
    return np.where(weight > 0.5, total / np.maximum(weight, 0.5), np.nan).astype(np.float32)


def as_image(picture: Picture) -> Image.Image:
    """The picture as an RGB PIL image."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    return image.convert("RGB")


@cache
def colormap_named(name: str) -> Colormap:
    """The colormap of matplotlib that has this name, in any case.

    Raises:
        UsageError: there is none; the message lists the nearest names.
    """
    names = {known.lower(): known for known in matplotlib.colormaps}
    if name.lower() in names:
        return matplotlib.colormaps[names[name.lower()]]
    near = get_close_matches(name.lower(), names, n=4, cutoff=0.5) or [COLORMAP, "viridis", "jet"]
    raise UsageError(f"no colormap {name!r}; near it are {', '.join(names[n] for n in near)}")


def _resize(values: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.float32]:
    plane = Image.fromarray(values.astype(np.float32))
    return np.asarray(plane.resize(size, Image.Resampling.BILINEAR))
