"""The hot region of a group's maps, and places of the same shape elsewhere."""

import numpy as np
import torch
from jaxtyping import Bool, Float

from mitate import imports
from mitate.tensors import resize_maps

OVERLAP = 0.25


def hot_region(heat: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The pixels around the peak of a map that are hotter than half-way from its mean to its peak.

    The map is resized bilinearly; of several such regions it is the one with the peak. Empty where
    the map is constant.

    Args:
        heat: on its own grid.
        size: height and width of the image.
    """
    pixels = resize_maps(torch.from_numpy(heat)[None, None], size)[0, 0].numpy()
    peak, mean = float(pixels.max()), float(pixels.mean())
    if not peak > mean:
        return np.zeros(size, dtype=np.bool_)
    parts, _ = imports.scipy("ndimage").label(pixels > (peak + mean) / 2)
    return np.asarray(parts == parts[np.unravel_index(pixels.argmax(), size)])


def elsewhere(
    region: Bool[np.ndarray, "H W"], number: int, rng: np.random.Generator
) -> list[Bool[np.ndarray, "H W"]]:
    """Random places of the same shape and size, whole in the image and hardly over the region.

    Boxes around the region and its copies share at most a quarter of their pixels. There are none
    where the region is too large to lie elsewhere, and fewer than ``number`` where there is room
    for fewer.
    """
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    top, left = rows[0], columns[0]
    height, width = rows[-1] - top + 1, columns[-1] - left + 1
    shape = region[top : top + height, left : left + width]
    tops = np.arange(region.shape[0] - height + 1)
    lefts = np.arange(region.shape[1] - width + 1)
    shared_rows = np.clip(height - np.abs(tops - top), 0, None) / height
    shared_columns = np.clip(width - np.abs(lefts - left), 0, None) / width
    places = np.argwhere(shared_rows[:, None] * shared_columns[None] <= OVERLAP)
    chosen = rng.permutation(len(places))[:number]
    return [_placed(shape, region.shape, *map(int, places[index])) for index in chosen]


def boxes(
    region: Bool[np.ndarray, "H W"], number: int, rng: np.random.Generator
) -> list[Bool[np.ndarray, "H W"]]:
    """Random boxes of the image's shape that have as many pixels as a region, to rounding."""
    share = np.sqrt(region.mean())
    height, width = (max(1, round(side * share)) for side in region.shape)
    shape = np.ones((height, width), dtype=np.bool_)
    places = np.argwhere(np.ones((region.shape[0] - height + 1, region.shape[1] - width + 1)))
    chosen = rng.permutation(len(places))[:number]
    return [_placed(shape, region.shape, *map(int, places[index])) for index in chosen]


def mostly_in(region: Bool[np.ndarray, "H W"], place: Bool[np.ndarray, "H W"]) -> bool:
    """Whether more than half of a region lies in a place."""
    return bool((region & place).sum() > region.sum() / 2)


def peaks_in(maps: Float[np.ndarray, "n h w"], region: Bool[np.ndarray, "H W"]) -> float:
    """Share of maps whose hottest cell has its middle in the region."""
    height, width = maps.shape[1:]
    rows, columns = np.unravel_index(maps.reshape(len(maps), -1).argmax(1), (height, width))
    y = ((rows + 0.5) / height * region.shape[0]).astype(int)
    x = ((columns + 0.5) / width * region.shape[1]).astype(int)
    return float(region[y, x].mean())


def _placed(
    shape: Bool[np.ndarray, "h w"], size: tuple[int, ...], top: int, left: int
) -> Bool[np.ndarray, "H W"]:
    moved = np.zeros(size, dtype=np.bool_)
    moved[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return moved
