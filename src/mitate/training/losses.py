"""Losses of a segmentation against masks whose pixels are shares, or not known.

All take logits, truth in [0, 1] and where the truth is known, and give one number. They are made
for truth between 0 and 1, which resized masks have at their edges: the overlap of a prediction p
and a truth t is min(p, t), which is p t where t is 0 or 1, and lies at its largest at p = t (Wang
et al. 2023, arXiv:2302.05666 and arXiv:2303.16296).
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mitate.errors import UsageError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

FALSE_POSITIVE, FALSE_NEGATIVE = 0.3, 0.7  # what Salehi et al. 2017 found best
GAMMA = 2.0  # Lin et al. 2017
SMOOTH = 1.0  # pixels; lets a batch without any region still push false positives down


def overlap(
    logits: Float[Tensor, "b r h w"],
    truth: Float[Tensor, "b r h w"],
    known: Bool[Tensor, "b 1 h w"],
    false_positive: float,
    false_negative: float,
) -> Float[Tensor, ""]:
    """One minus the Tversky index, a region over the whole batch, averaged over regions.

    Salehi et al. 2017, arXiv:1706.05721, eq. 2; over the batch, since an image without a region has
    no overlap of its own.
    """
    predicted = logits.sigmoid()
    both = _summed(torch.minimum(predicted, truth), known)
    too_much = _summed((predicted - truth).relu(), known)
    too_little = _summed((truth - predicted).relu(), known)
    missed = false_positive * too_much + false_negative * too_little
    return (1 - (both + SMOOTH) / (both + missed + SMOOTH)).mean()


def dice(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Soft Dice (Milletari et al. 2016, arXiv:1606.04797): the Tversky index at 1/2 and 1/2."""
    return overlap(logits, truth, known, 0.5, 0.5)


def jaccard(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Soft intersection over union: the Tversky index at 1 and 1."""
    return overlap(logits, truth, known, 1, 1)


def tversky(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Misses weigh more than false alarms, for small regions (Salehi et al. 2017)."""
    return overlap(logits, truth, known, FALSE_POSITIVE, FALSE_NEGATIVE)


def bce(
    logits: Float[Tensor, "b r h w"],
    truth: Float[Tensor, "b r h w"],
    known: Bool[Tensor, "b 1 h w"],
) -> Float[Tensor, ""]:
    """Binary cross-entropy, averaged over known pixels."""
    return _mean(F.binary_cross_entropy_with_logits(logits, truth, reduction="none"), known)


def focal(
    logits: Float[Tensor, "b r h w"],
    truth: Float[Tensor, "b r h w"],
    known: Bool[Tensor, "b 1 h w"],
) -> Float[Tensor, ""]:
    """Cross-entropy of which certain pixels weigh little, averaged over known pixels.

    Lin et al. 2017, arXiv:1708.02002, eq. 4 without its alpha; between 0 and 1 as Li et al. 2020
    have it (arXiv:2006.04388, eq. 6): the distance to the truth is the weight.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return _mean((logits.sigmoid() - truth).abs() ** GAMMA * entropy, known)


LOSSES: dict[str, Loss] = {
    "dice": dice,
    "jaccard": jaccard,
    "tversky": tversky,
    "bce": bce,
    "focal": focal,
}


def summed(names: Sequence[str]) -> Loss:
    """The sum of some losses.

    Raises:
        UsageError: no name, or an unknown one.
    """
    strange = [name for name in names if name not in LOSSES]
    if strange or not names:
        raise UsageError(
            f"segmentation loss {', '.join(strange) or '(none)'}: use some of {', '.join(LOSSES)}"
        )
    losses = [LOSSES[name] for name in dict.fromkeys(names)]

    def total(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        return torch.stack([loss(logits, truth, known) for loss in losses]).sum()

    return total


def _summed(
    pixels: Float[Tensor, "b r h w"], known: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, " r"]:
    return (pixels * known).sum((0, 2, 3))


def _mean(pixels: Float[Tensor, "b r h w"], known: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    return _summed(pixels, known).mean() / known.sum().clamp_min(1)
