"""How simple a map is, at the pixels of the input, so that layers of any grid compare."""

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.auditing.table import metric
from mitate.tensors import exact


@metric(
    "sparseness",
    family="complexity",
    better="higher",
    range=(0, 1),
    cite="Chalasani et al. 2020, arXiv:1810.06583 (Gini index of Hurley and Rickard 2009)",
)
def sparseness(pixels: Float[Tensor, "b H W"]) -> Float[Tensor, " b"]:
    """Gini index of the map's absolute values: 0 for a constant map, near 1 for one pixel.

    NaN for a map of zeros.
    """
    ordered = exact(pixels.abs()).flatten(1).sort(1).values
    number = ordered.shape[1]
    places = torch.arange(1, number + 1, device=ordered.device, dtype=ordered.dtype)
    total = ordered.sum(1)
    share = (ordered * (number - places + 0.5)).sum(1) / total / number
    return torch.where(total > 0, 1 - 2 * share, torch.nan)


@metric(
    "entropy",
    family="complexity",
    better="lower",
    range=(0, float("inf")),
    cite="Bhatt et al. 2020, doi:10.24963/ijcai.2020/417 (eq. 3, complexity)",
)
def entropy(pixels: Float[Tensor, "b H W"]) -> Float[Tensor, " b"]:
    """Entropy in nats of the map's absolute values as shares of their sum.

    From 0 for one pixel to the logarithm of the number of pixels. NaN for a map of zeros.
    """
    values = exact(pixels.abs()).flatten(1)
    total = values.sum(1)
    shares = values / torch.where(total > 0, total, 1)[:, None]
    return torch.where(total > 0, torch.special.entr(shares).sum(1), torch.nan)


@metric(
    "area",
    family="complexity",
    better="lower",
    range=(0, 1),
    cite="Zhou et al. 2016, doi:10.1109/CVPR.2016.319 (thresholded map, sec. 3.2)",
)
def area(pixels: Float[Tensor, "b H W"], *, threshold: float = 0.5) -> Float[Tensor, " b"]:
    """Share of the pixels at which the map is at least half of its maximum.

    NaN where the map is positive nowhere.
    """
    peak = pixels.amax((-2, -1), keepdim=True)
    share = exact(pixels >= threshold * peak).mean((-2, -1))
    return torch.where(peak[:, 0, 0] > 0, share, torch.nan)
