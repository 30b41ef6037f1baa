"""How much of a map lies where it should.

The true region is given as the share of each pixel that belongs to it. Where pixels are counted,
the region is those of which at least half belongs to it, or, of a region that is too small for one,
those of the largest share. Nothing is told of an image without a region.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mitate.auditing.ranking import levels
from mitate.auditing.table import metric
from mitate.tensors import exact


@metric(
    "energy",
    family="localisation",
    better="higher",
    range=(0, 1),
    cite="Wang et al. 2020, doi:10.1109/CVPRW50498.2020.00020 (energy-based pointing game)",
)
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
    resized = F.interpolate(exact(maps[:, None]), size, mode="bilinear", align_corners=False)
    positive = resized[:, 0].clamp_min(0)
    total = positive.sum((-2, -1))
    share = (positive * masks).sum((-2, -1)) / total
    finite = maps.flatten(1).isfinite().all(1)
    valid = finite & (total > 0) & total.isfinite() & (masks.sum((-2, -1)) > 0)
    return torch.where(valid, share, torch.nan).float()


def area_share(masks: Float[Tensor, "b H W"]) -> Float[Tensor, " b"]:
    """Share of each image that its mask covers: what a map without a preference would score."""
    return masks.mean((-2, -1))


@metric(
    "pointing",
    family="localisation",
    better="higher",
    range=(0, 1),
    cite="Zhang et al. 2018, doi:10.1007/s11263-017-1059-x (pointing game)",
)
def pointing(
    pixels: Float[Tensor, "b H W"],
    masks: Float[Tensor, "b H W"],
    *,
    tolerance: float = 0.03,
) -> Float[Tensor, " b"]:
    """Whether the map's maximum hits the region, within a tolerance: 1 or 0.

    Of several maxima, the share that hits. A constant map hits nothing. NaN where there is no
    region, which is neither a hit nor a miss.

    Args:
        pixels: the maps at the pixels of the masks.
        masks: the regions.
        tolerance: how far from the region is still a hit, as a share of the longer side; the
            paper's 15 pixels are about this of its images.
    """
    found = levels(pixels)
    maxima = (found == found.amax((-2, -1), keepdim=True)) & found.any(-1).any(-1)[:, None, None]
    near = widened(region(masks), tolerance * max(masks.shape[-2:]))
    hits = (maxima & near).sum((-2, -1)) / maxima.sum((-2, -1)).clamp_min(1)
    return _where_known(hits, masks)


@metric(
    "rank_accuracy",
    family="localisation",
    better="higher",
    range=(0, 1),
    cite="Arras et al. 2022, doi:10.1016/j.inffus.2021.11.008 (relevance rank accuracy)",
)
def rank_accuracy(
    pixels: Float[Tensor, "b H W"], masks: Float[Tensor, "b H W"]
) -> Float[Tensor, " b"]:
    """Share of the map's highest pixels, as many as the region has, that lie in the region.

    Of equal pixels at the limit, as many lie in the region as of all of them: a constant map scores
    the region's area. NaN where there is no region.
    """
    values, hits = levels(pixels).flatten(1), region(masks).flatten(1)
    size = hits.sum(1, keepdim=True)
    ordered = values.sort(1, descending=True).values
    limit = ordered.gather(1, (size - 1).clamp_min(0))
    over, equal = values > limit, values == limit
    within = (size - over.sum(1, keepdim=True)) * (equal & hits).sum(1, keepdim=True)
    found = (over & hits).sum(1, keepdim=True) + within / equal.sum(1, keepdim=True)
    return _where_known((found / size.clamp_min(1))[:, 0], masks)


@metric(
    "iou",
    family="localisation",
    better="higher",
    range=(0, 1),
    cite="Choe et al. 2020, doi:10.1109/CVPR42600.2020.00320 (threshold swept)",
)
def iou(pixels: Float[Tensor, "b H W"], masks: Float[Tensor, "b H W"]) -> Float[Tensor, " b"]:
    """Overlap of the region and the map over a threshold, at the threshold that suits it best.

    Intersection over union, at every value that the map takes; a constant map scores the region's
    area. NaN where there is no region.
    """
    hits, _, last, number = _swept(pixels, masks)
    size = hits[:, -1:]
    overlap = hits / (size + number - hits)
    return _where_known(torch.where(last, overlap, 0).amax(1), masks)


@metric(
    "average_precision",
    family="localisation",
    better="higher",
    range=(0, 1),
    cite="Choe et al. 2020, doi:10.1109/CVPR42600.2020.00320 (PxAP, of one image)",
)
def average_precision(
    pixels: Float[Tensor, "b H W"], masks: Float[Tensor, "b H W"]
) -> Float[Tensor, " b"]:
    """Mean precision of the map over a threshold, over the pixels of the region that it finds.

    As scikit-learn has it: equal pixels pass the threshold together; a constant map scores the
    region's area. NaN where there is no region.
    """
    hits, hit, last, number = _swept(pixels, masks)
    places = torch.where(last, number - 1, hits.shape[1] - 1)
    ends = places.flip(1).cummin(1).values.flip(1)
    precision = (hits / number).gather(1, ends)
    return _where_known((precision * hit).sum(1) / hits[:, -1].clamp_min(1), masks)


def widened(region: Bool[Tensor, "b H W"], radius: float) -> Bool[Tensor, "b H W"]:
    """All pixels whose centre is at most ``radius`` pixels from one of the region's."""
    whole = int(radius)
    places = torch.arange(-whole, whole + 1, device=region.device, dtype=torch.float32)
    disc = places[:, None].square() + places.square() <= radius**2
    found = F.conv2d(region[:, None].float(), disc[None, None].float(), padding=whole)
    return found[:, 0] > 0.5


def region(masks: Float[Tensor, "b H W"]) -> Bool[Tensor, "b H W"]:
    """The pixels of the region: at least half covered, or else those that are covered most."""
    most = masks.amax((-2, -1), keepdim=True)
    return (masks >= most.clamp_max(0.5)) & (most > 0)


def _swept(
    pixels: Float[Tensor, "b H W"], masks: Float[Tensor, "b H W"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The region's pixels found by each threshold, from the highest down.

    Gives, by place in the order of the map, the hits so far (b, n), whether this one is a hit,
    whether it is the last of its value, and the number of pixels so far (1, n).
    """
    ordered, order = levels(pixels).flatten(1).sort(1, descending=True)
    hit = region(masks).flatten(1).gather(1, order)
    last = torch.ones_like(hit)
    last[:, :-1] = ordered[:, :-1] != ordered[:, 1:]
    number = torch.arange(1, ordered.shape[1] + 1, device=pixels.device)[None]
    return hit.cumsum(1), hit, last, number


def _where_known(values: Tensor, masks: Float[Tensor, "b H W"]) -> Float[Tensor, " b"]:
    return torch.where(masks.amax((-2, -1)) > 0, values.float(), torch.nan)
