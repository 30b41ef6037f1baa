"""How much of a map lies where it should."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def energy_share(
    maps: Float[Tensor, "b h w"], masks: Float[Tensor, "b H W"]
) -> Float[Tensor, " b"]:
    """Share of each map's energy on its mask, in [0, 1]; higher is better.

    The energy-based pointing game of Wang et al. 2020 (Score-CAM, sec. 4.3): the map, resized
    bilinearly to the mask's pixels and without its negative part, summed over the mask and divided
    by its whole sum. NaN where the map has no energy, is not finite, or the mask is empty.

    Args:
        maps: one map an image, on its own grid.
        masks: the share of each pixel that belongs to the region, in [0, 1].
    """
    size = masks.shape[-2:]
    resized = F.interpolate(maps[:, None].double(), size, mode="bilinear", align_corners=False)
    positive = resized[:, 0].clamp_min(0)
    total = positive.sum((-2, -1))
    share = (positive * masks).sum((-2, -1)) / total
    finite = maps.flatten(1).isfinite().all(1)
    valid = finite & (total > 0) & total.isfinite() & (masks.sum((-2, -1)) > 0)
    return torch.where(valid, share, torch.nan).float()


def area_share(masks: Float[Tensor, "b H W"]) -> Float[Tensor, " b"]:
    """Share of each image that its mask covers: what a map without a preference would score."""
    return masks.mean((-2, -1))
