"""Small operations on tensors that several rooms need."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mitate.errors import UsageError

RESIZE_MODES = ("bilinear", "bicubic", "nearest")


def seeded(seed: int | torch.Generator) -> torch.Generator:
    """Give a CPU generator; an integer seeds a new one, so that the global state is not touched."""
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator().manual_seed(seed)


def resize_maps(
    maps: Float[Tensor, "b k h w"], size: tuple[int, int], mode: str = "bilinear"
) -> Float[Tensor, "b k height width"]:
    """Resize all maps to ``size`` (height, width) in one operation.

    Bicubic interpolation overshoots; its result is clipped back to the range of each map.

    Raises:
        UsageError: an unknown mode.
    """
    if mode not in RESIZE_MODES:
        raise UsageError(f"unknown resize mode {mode!r}: use one of {', '.join(RESIZE_MODES)}")
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    exact = maps if maps.dtype in (torch.float32, torch.float64) else maps.float()
    if mode == "nearest":
        return F.interpolate(exact, size, mode=mode).to(maps.dtype)
    resized = F.interpolate(exact, size, mode=mode, align_corners=False)
    if mode == "bicubic":
        low, high = exact.amin((-2, -1), keepdim=True), exact.amax((-2, -1), keepdim=True)
        resized = resized.clamp(low, high)
    return resized.to(maps.dtype)


def relative_to_maximum(maps: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Divide each map by its largest absolute value; a map of zeros stays zero."""
    peak = maps.abs().amax((-2, -1), keepdim=True)
    return torch.where(peak > 0, maps / torch.where(peak > 0, peak, 1), 0)


def to_unit_range(maps: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Scale each map from its minimum and maximum to [0, 1]; a constant map becomes zero."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    span = high - low
    return torch.where(span > 0, (maps - low) / torch.where(span > 0, span, 1), 0)
