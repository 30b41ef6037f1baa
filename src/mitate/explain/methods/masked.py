"""Methods that mask the input and read the class score of each masked forward."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, where

from mitate.errors import UsageError
from mitate.explain.estimating.anytime import PROBABILITY, RATIO, VALUE, estimated_weights
from mitate.explain.estimating.estimate import Estimate
from mitate.explain.methods.table import Cost, method, weighting
from mitate.explain.scorer import Scorer
from mitate.explain.suffix import Suffix
from mitate.tensors import varies


@weighting(
    "scorecam",
    family="masked forwards",
    cost=Cost(1, per_channel=1),
    cite="Wang et al. 2020, doi:10.1109/CVPRW50498.2020.00020",
)
def scorecam(
    activations: Float[Tensor, "b c h w"],
    scorer: Scorer,
    generators: Sequence[torch.Generator],
    *,
    channel_softmax: bool = False,
    tolerance: float = 0.0,
    signed: bool = False,
    principal: bool = False,
) -> Float[Tensor, "b k c"] | tuple[Float[Tensor, "b k c"], Estimate]:
    """Channels weighted by the class's probability when each alone masks the input.

    Each channel is upsampled to the input, scaled to [0, 1] and multiplied with the image; its
    weight is the softmax probability of the class on that image, as in the authors' code. A
    channel that is constant over space masks nothing and is left out, as there.

    Args:
        activations: what the layer gave.
        scorer: runs the masked forwards.
        generators: of the channels that are scored, where not all are.
        channel_softmax: weight instead by a softmax over channels of the class's logits, as in
            the paper's algorithm 1, grad-cam and torchcam.
        tolerance: score channels only until the map's estimated error, 1 less its correlation with
            the exact map, is no more than this; 0 scores all of them. See anytime.py.
        signed: as ``summed`` has it.
        principal: likewise.

    Raises:
        UsageError: a tolerance that is none, or of a map that is no plain sum.
    """
    if not 0 <= tolerance < 1:
        raise UsageError(f"tolerance is {tolerance}: use 0 (exact) or more, and less than 1")
    if tolerance and principal:
        raise UsageError("tolerance estimates the plain sum over channels: leave out principal")
    live = varies(activations)
    if tolerance:
        softmax = channel_softmax
        return _estimated(activations, live, scorer, generators, softmax, tolerance, signed)
    if channel_softmax:
        dead = ~live[..., None]
        logits = scorer.logits(activations, live).masked_fill(dead, float("-inf"))
        return where(dead, 0, logits.softmax(1)).mT
    return scorer.probabilities(activations, live).mT


@weighting(
    "ablationcam",
    family="masked forwards",
    cost=Cost(1, per_channel=1, partial=True),
    cite="Desai and Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360",
)
def ablationcam(activations: Float[Tensor, "b c h w"], suffix: Suffix) -> Float[Tensor, "b k c"]:
    """Channels weighted by the share of the class's logit that is lost without them (eq. 3).

    The share is of the logit's size: dividing by a negative logit, as the formula has it, would
    turn the map over. Prefix tokens keep their channels. Only what lies behind the layer is run.
    """

    def without(owner: Tensor, channel: Tensor) -> Tensor:
        kept = torch.ones(len(owner), activations.shape[1], device=owner.device)
        kept = kept.scatter(1, channel[:, None], 0).to(activations.dtype)
        return activations[owner] * kept[..., None, None]

    used = activations.flatten(2).any(-1)
    left = suffix.scores(used, without)
    whole = suffix.own_scores()[:, None]
    size = where(whole == 0, 1, whole.abs())
    return where(used[..., None], (whole - left) / size, 0).mT


@method(
    "reciprocam",
    family="masked forwards",
    cost=Cost(1, per_cell=1, partial=True),
    cite="Byun and Lee 2022, arXiv:2209.14074",
)
def reciprocam(
    activations: Float[Tensor, "b c h w"], suffix: Suffix, *, gaussian: bool = False
) -> Float[Tensor, "b k h w"]:
    """The class's probability when the layer keeps one cell alone, less that of the poorest cell.

    Prefix tokens stay, as in the version for ViT (arXiv:2310.02588).

    Args:
        activations: what the layer gave.
        suffix: runs what lies behind the layer.
        gaussian: keep a cell's neighbours too, by a 3x3 Gaussian that the edge cuts.
    """
    height, width = activations.shape[-2:]
    alone = torch.eye(height * width, device=activations.device, dtype=activations.dtype)
    masks = alone.reshape(-1, 1, height, width)
    if gaussian:
        bell = masks.new_tensor([1.0, 2.0, 1.0]) / 4
        masks = F.conv2d(masks, (bell[:, None] * bell)[None, None], padding=1)

    def only(owner: Tensor, cell: Tensor) -> Tensor:
        return activations[owner] * masks[cell]

    every = torch.ones(len(activations), height * width, dtype=torch.bool, device=masks.device)
    scores = suffix.scores(every, only, likely=True)
    lifted = scores - scores.amin(1, keepdim=True)
    return lifted.mT.reshape(len(activations), -1, height, width)


@weighting(
    "sscam",
    family="masked forwards",
    cost=Cost(1, per_channel=8),
    cite="Wang et al. 2020, arXiv:2006.14255 (SS-CAM)",
)
def sscam(
    activations: Float[Tensor, "b c h w"],
    scorer: Scorer,
    generators: Sequence[torch.Generator],
    *,
    spread: float = 0.4,
) -> Float[Tensor, "b k c"]:
    """Score-CAM's weight, averaged over 8 copies of the mask with Gaussian noise.

    Args:
        activations: what the layer gave.
        scorer: runs the masked forwards.
        generators: of the noise, which all channels of an image share.
        spread: its standard deviation, on masks in [0, 1]; the paper's 2 drowns them.

    Raises:
        UsageError: a negative spread.
    """
    if spread < 0:
        raise UsageError(f"spread is {spread:g}: use 0 or more")
    live = varies(activations)
    size = scorer.images.shape[-2:]
    total = torch.zeros((), device=activations.device)
    for _ in range(8):
        noise = [
            torch.randn(1, *size, generator=generator, dtype=torch.float64)
            for generator in generators
        ]
        drawn = spread * torch.stack(noise).to(activations)
        total = total + scorer.probabilities(activations, live, noise=drawn) / 8
    return total.mT


@weighting(
    "iscam",
    family="masked forwards",
    cost=Cost(1, per_channel=10),
    cite="Naidu et al. 2020, arXiv:2010.03023",
)
def iscam(activations: Float[Tensor, "b c h w"], scorer: Scorer) -> Float[Tensor, "b k c"]:
    """Score-CAM's weight, averaged over 10 equal steps from nothing to the masked image.

    The peers add the steps up, which leaves the way for an image five times over-exposed.
    """
    live = varies(activations)
    steps = [scorer.probabilities(activations, live, share=step / 10) for step in range(1, 11)]
    return torch.stack(steps).mean(0).mT


def _estimated(
    activations: Float[Tensor, "b c h w"],
    live: Bool[Tensor, "b c"],
    scorer: Scorer,
    generators: Sequence[torch.Generator],
    channel_softmax: bool,
    tolerance: float,
    signed: bool,
) -> tuple[Float[Tensor, "b k c"], Estimate]:
    """Score-CAM's weights from as few channels as the tolerance allows."""
    own = scorer.own_logits()[:, None].cpu().double()

    def score(wanted: Bool[Tensor, "b c"]) -> Float[Tensor, "b c k"]:
        if channel_softmax:  # up to its denominator, which is the same for all channels
            return (scorer.logits(activations, wanted).cpu().double() - own).exp()
        return scorer.probabilities(activations, wanted)

    link = VALUE if scorer.task == "regression" else PROBABILITY
    weights, estimate = estimated_weights(
        activations,
        live,
        score,
        scorer.classes.shape[1],
        RATIO if channel_softmax else link,
        generators,
        tolerance=tolerance,
        signed=signed,
    )
    if not channel_softmax:
        return weights, estimate
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / torch.where(total > 0, total, 1), 0), estimate
