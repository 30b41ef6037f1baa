"""Methods whose masks have shapes of their own: groups of channels, random cells, a window."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, einsum, where

from mitate.errors import UsageError
from mitate.explain.methods.table import Cost, method, windows_across
from mitate.explain.scorer import Scorer
from mitate.tensors import at_least_single, resizing, varies

BLUR = 51  # pixels of the kernel's side, and 50 its deviation, as in Group-CAM's code
FILLS = ("grey", "blur")


@method(
    "groupcam",
    family="masked forwards",
    cost=Cost(2, per_class=2, per_group=1),
    cite="Zhang et al. 2021, arXiv:2103.13859",
)
def groupcam(
    activations: Float[Tensor, "b c h w"],
    gradients: Float[Tensor, "b k c h w"],
    scorer: Scorer,
    *,
    groups: int = 32,
    percentile: float = 70.0,
) -> Float[Tensor, "b k h w"]:
    """Groups of Grad-CAM's weighted channels, each by what it adds when it masks a blurred image.

    What it adds is the probability of the class over that of the blurred image. A group is the
    positive part of its sum, with all at and under its own percentile taken off.

    Args:
        activations: what the layer gave.
        gradients: of each class's score.
        scorer: runs the masked forwards.
        groups: into how many groups of neighbours the channels are cut, at most; each costs a
            forward a class.
        percentile: of a group's cells, how many are taken off as noise.

    Raises:
        UsageError: no group, or a percentile that is none.
    """
    if groups < 1 or not 0 <= percentile < 100:
        raise UsageError("use 1 group or more, and a percentile from 0 to under 100")
    weighted = gradients.mean((-2, -1), keepdim=True) * activations[:, None]
    parts = torch.split(weighted, math.ceil(weighted.shape[2] / groups), 2)
    sums = torch.stack([part.sum(2) for part in parts], 2).relu()
    masks = scorer.scaled(_denoised(sums, percentile).flatten(1, 2))
    behind = blurred(scorer.images)
    scores = scorer.probabilities(masks, varies(masks), behind=behind)
    nothing = torch.zeros_like(masks[:, :1])
    always = torch.ones(len(masks), 1, dtype=torch.bool, device=masks.device)
    gains = scores - scorer.probabilities(nothing, always, behind=behind)
    own = gains.reshape(*sums.shape[:3], -1).diagonal(dim1=1, dim2=3)
    return einsum("bgk,bkghw->bkhw", own, masks.reshape(sums.shape)).relu()


@method(
    "rise",
    family="masked forwards",
    cost=Cost(1, per_sample=1),
    cite="Petsiuk et al. 2018, arXiv:1806.07421",
)
def rise(
    scorer: Scorer,
    grid: tuple[int, int],
    generators: Sequence[torch.Generator],
    *,
    samples: int = 4000,
    cells: int = 8,
    keep: float = 0.5,
) -> Float[Tensor, "b k h w"]:
    """Random masks averaged by the class's probability on the masked image (eq. 6).

    A mask is a coarse grid of cells that are kept or not, upsampled bilinearly and shifted by a
    part of a cell. The map is of pixels by definition; here it is averaged over each cell of the
    layer's grid. It has a large offset: what an empty place gets is the mean probability.

    Args:
        scorer: runs the masked forwards.
        grid: of the layer.
        generators: of the masks.
        samples: how many masks; each costs a forward, and fewer leave more noise.
        cells: of the coarse grid, along each side.
        keep: the probability that a cell is kept.

    Raises:
        UsageError: no mask, no cell, or a probability that is none.
    """
    if samples < 1 or cells < 1 or not 0 < keep <= 1:
        raise UsageError("use 1 sample and 1 cell or more, and keep over 0 and at most 1")
    own, size = scorer.own_probabilities(), scorer.images.shape[-2:]
    drawn = [_coarse_masks(samples, cells, keep, size, generator) for generator in generators]
    kept, shifts = (torch.stack(part).to(own.device) for part in zip(*drawn, strict=True))
    # One cell's pixels longer than the image, so that the mask can be shifted.
    larger = [(cells + 1) * math.ceil(pixels / cells) for pixels in size]
    down, across = (resizing(cells, pixels).to(own) for pixels in larger)

    def make(owner: Tensor, number: Tensor) -> Tensor:
        top, left = shifts[owner, number].unbind(-1)
        rows = down[top[:, None] + torch.arange(size[0], device=top.device)]
        columns = across[left[:, None] + torch.arange(size[1], device=top.device)]
        return (rows @ kept[owner, number].to(own) @ columns.mT)[:, None]

    every = torch.ones(kept.shape[:2], dtype=torch.bool, device=own.device)
    total = own.new_zeros(*own.shape, *grid)
    for owner, _, masks, found in scorer.each(every, make):
        shown = F.adaptive_avg_pool2d(masks, grid)
        total.index_add_(0, owner, found[..., None, None] * shown)
    return total / (samples * keep)


@method(
    "occlusion",
    family="masked forwards",
    cost=Cost(1, per_window=1),
    cite="Zeiler and Fergus 2014, doi:10.1007/978-3-319-10590-1_53",
)
def occlusion(
    scorer: Scorer,
    grid: tuple[int, int],
    *,
    window: float = 0.2,
    stride: float = 0.05,
    fill: str = "grey",
) -> Float[Tensor, "b k h w"]:
    """What the class's probability falls by when a window hides a place; negative where it rises.

    A pixel has the mean fall over the windows that cover it, as in captum. The map is of pixels by
    definition; here it is averaged over each cell of the layer's grid.

    Args:
        scorer: runs the masked forwards.
        grid: of the layer.
        window: the window's sides, as a share of the image's.
        stride: from one window to the next, as a share of the image's sides; the last may cross the
            edge.
        fill: what is seen in the window: ``grey``, the zero of the preprocessed image, which is the
            mean colour where it was normalised; or ``blur``.

    Raises:
        UsageError: shares that are none, a stride over the window, or no such fill.
    """
    if fill not in FILLS:
        raise UsageError(f"no fill is called {fill!r}: use {' or '.join(FILLS)}")
    images, number = scorer.images, windows_across(window, stride)
    down, across = (
        _windows(number, window, stride, pixels).to(images.device) for pixels in images.shape[-2:]
    )

    def make(owner: Tensor, place: Tensor) -> Tensor:
        hidden = down[place // number, :, None] & across[place % number, None, :]
        return (~hidden).to(images.dtype)[:, None]

    every = torch.ones(len(images), number**2, dtype=torch.bool, device=images.device)
    own, behind = scorer.own_probabilities(), blurred(images) if fill == "blur" else None
    falls = own.new_zeros(*every.shape, own.shape[1])
    for owner, place, _, found in scorer.each(every, make, behind=behind):
        falls[owner, place] = own[owner] - found
    rows, columns = (
        _averaging(side.to(own.dtype), cells)
        for side, cells in zip((down, across), grid, strict=True)
    )
    return einsum("yi,bijk,xj->bkyx", rows, falls.reshape(len(own), number, number, -1), columns)


def blurred(images: Float[Tensor, "b channels H W"]) -> Float[Tensor, "b channels H W"]:
    """Images under a Gaussian of 51 pixels, or as many as fit, reflected at the border."""
    exact = at_least_single(images)
    half = min(BLUR // 2, min(images.shape[-2:]) - 1)
    down, across = (_blurring(side, half).to(exact) for side in images.shape[-2:])
    return down @ (exact @ across.mT)


def _blurring(pixels: int, half: int) -> Float[Tensor, "pixels pixels"]:
    """The matrix that blurs a side: a product is ten times as fast as a long convolution."""
    apart = torch.arange(-half, half + 1)
    bell = torch.exp(-((apart.double() / (BLUR - 1)) ** 2) / 2)
    places = (torch.arange(pixels)[:, None] + apart).abs()
    reflected = pixels - 1 - (pixels - 1 - places).abs()
    weights = torch.zeros(pixels, pixels, dtype=torch.float64)
    return weights.scatter_add_(1, reflected, (bell / bell.sum()).expand_as(reflected))


def _denoised(groups: Float[Tensor, "*n h w"], percentile: float) -> Float[Tensor, "*n h w"]:
    """Zero at and under each group's percentile, which lies between two neighbours."""
    ordered = groups.flatten(-2).sort(-1).values
    place = percentile / 100 * (ordered.shape[-1] - 1)
    below, above = ordered[..., math.floor(place)], ordered[..., math.ceil(place)]
    limit = below + place % 1 * (above - below)
    return where(groups > limit[..., None, None], groups, 0)


def _coarse_masks(
    samples: int, cells: int, keep: float, size: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which cells are kept (samples, cells, cells), and shifts in pixels (samples, 2)."""
    kept = torch.rand(samples, cells, cells, generator=generator) < keep
    shifts = [
        torch.randint(math.ceil(pixels / cells), (samples,), generator=generator) for pixels in size
    ]
    return kept, torch.stack(shifts, -1)


def _windows(number: int, window: float, stride: float, pixels: int) -> Tensor:
    """Which pixels of a side each window covers (windows, pixels)."""
    start = torch.arange(number, dtype=torch.float64)[:, None] * stride
    first, end = (start * pixels).round(), ((start + window) * pixels).round()
    places = torch.arange(pixels)
    return (places >= first) & (places < end.maximum(first + 1))


def _averaging(
    cover: Float[Tensor, "windows pixels"], cells: int
) -> Float[Tensor, "cells windows"]:
    """From values of windows to means of pixels, each the mean of its windows, over cells."""
    return F.adaptive_avg_pool1d(cover / cover.sum(0).clamp(min=1), cells).mT
