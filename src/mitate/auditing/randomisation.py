"""Whether a map depends on what the network has learned, and on the class.

A map that stays as it is when the weights are drawn anew, or when another class is asked for, does
not tell of the network's decision.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mitate.auditing.ranking import LEVELS, levels
from mitate.auditing.redrawing import Redrawn, cut
from mitate.auditing.similarity import spearman
from mitate.auditing.table import metric
from mitate.tensors import exact

BINS = 100  # of the histogram whose entropy is a map's complexity
Explain = Callable[[Tensor, Tensor], Tensor]


def _one() -> int:
    return 1


def _stages(*, stages: int = 8) -> int:
    return stages


@metric(
    "efficient_randomisation",
    family="randomisation",
    better="higher",
    range=(-1, float("inf")),
    cite="Hedström et al. 2024, arXiv:2401.06465 (eMPRT)",
    explanations=_one,
)
def efficient_randomisation(
    pixels: Float[Tensor, "b H W"],
    images: Float[Tensor, "b channels H W"],
    classes: Int[Tensor, " b"],
    explain: Explain,
    redrawn: Redrawn,
) -> Float[Tensor, " b"]:
    """Share by which the map's complexity rises when all weights of the network are drawn anew.

    Complexity is the entropy of a histogram of the map at pixels, of 100 bins from its least value
    to its largest. About 0 for a map that ignores the network; NaN for a constant map.
    """
    with redrawn.entered(redrawn.layers):
        drawn = explain(images, classes)
    resized = F.interpolate(
        drawn[:, None], pixels.shape[-2:], mode="bilinear", align_corners=False
    )[:, 0]
    before, after = histogram_entropy(pixels), histogram_entropy(resized)
    finite = drawn.flatten(1).isfinite().all(1) & (before > 0)
    return torch.where(finite, (after - before) / torch.where(before > 0, before, 1), torch.nan)


@metric(
    "cascading_randomisation",
    family="randomisation",
    better="lower",
    range=(-1, 1),
    cite="Adebayo et al. 2018, arXiv:1810.03292 (cascading)",
    explanations=_stages,
)
def cascading_randomisation(
    maps: Float[Tensor, "b h w"],
    images: Float[Tensor, "b channels H W"],
    classes: Int[Tensor, " b"],
    explain: Explain,
    redrawn: Redrawn,
    *,
    stages: int = 8,
) -> Float[Tensor, " b"]:
    """Mean rank correlation of the map with those of networks randomised from the output down.

    The layers are cut into ``stages`` of as many each; the last is drawn anew, then the last two,
    and so on to all, every layer by a seed of its own. The untouched network is not in the mean.
    About 1 for a map that ignores the network. NaN where a map is constant at every stage.
    """
    found = []
    for stage in reversed(cut(redrawn.layers, stages)):
        with redrawn.entered(stage):
            drawn = explain(images, classes).nan_to_num(0, 0, 0)
        found.append(spearman(maps, drawn))
    return torch.stack(found).nanmean(0)


@metric(
    "random_logit",
    family="randomisation",
    better="lower",
    range=(-1, 1),
    cite="Sixt et al. 2020, arXiv:1912.09818 (random logit)",
    explanations=_one,
)
def random_logit(
    maps: Float[Tensor, "b h w"],
    images: Float[Tensor, "b channels H W"],
    classes: Int[Tensor, " b"],
    class_count: int,
    generators: Sequence[torch.Generator],
    explain: Explain,
) -> Float[Tensor, " b"]:
    """Rank correlation of the map with that of another class, which is drawn for each image.

    The paper compares pictures by SSIM; ranks compare maps of any grid and need no scale. 1 for a
    map that is the same for every class. NaN where one of the two is constant, or with one class.
    """
    if class_count < 2:
        return torch.full_like(classes, torch.nan, dtype=maps.dtype)
    steps = [int(torch.randint(1, class_count, (), generator=g)) for g in generators]
    others = (classes + torch.tensor(steps, device=classes.device)) % class_count
    return spearman(maps, explain(images, others).nan_to_num(0, 0, 0))


def histogram_entropy(maps: Float[Tensor, "b H W"]) -> Float[Tensor, " b"]:
    """Entropy in nats of how the values of each map spread over bins of its range."""
    found = levels(maps).flatten(1)
    bins = found * BINS // (LEVELS + 1)
    ones = exact(torch.ones_like(bins))
    counts = torch.zeros(len(maps), BINS, dtype=torch.float64, device=ones.device)
    counts.scatter_add_(1, bins.to(ones.device), ones)
    entropy: Tensor = torch.special.entr(counts / bins.shape[1]).sum(1)
    return entropy
