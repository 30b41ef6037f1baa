"""Why this class rather than another: the score of a class less those of its rivals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.targets import label_indices

NEAREST = "nearest"
RIVALS = 3


@dataclass(frozen=True)
class Contrast:
    """Scores for gradients that keep what tells classes apart (FinerCAM).

    The logit of a class less ``strength`` times the mean logit of its rivals: Zhang et al. 2025,
    arXiv:2501.11309, whose rivals are the three classes of the nearest logits. grad-cam weights
    rivals by their probability.

    Attributes:
        rival: the class to compare with; None compares each with the classes of the nearest logits.
            The rival itself is compared with those too.
        strength: 1 leaves nothing of what a class shares with its rivals.
    """

    rival: int | None = None
    strength: float = 1.0

    def __call__(
        self, logits: Float[Tensor, "b n"], classes: Int[Tensor, "b k"]
    ) -> Float[Tensor, "b k"]:
        """Score classes against their rivals."""
        own = logits.gather(1, classes)
        every = logits[:, None].expand(-1, classes.shape[1], -1)
        rivals = every.gather(2, _nearest(logits.detach(), classes)).mean(-1)
        if self.rival is not None:
            rivals = torch.where(classes == self.rival, rivals, logits[:, self.rival, None])
        return own - self.strength * rivals


def _nearest(
    logits: Float[Tensor, "b n"], classes: Int[Tensor, "b k"]
) -> Int[Tensor, "b k rivals"]:
    """The other classes whose logits are nearest to each class's own, three of them at most."""
    distance = (logits[:, None] - logits.gather(1, classes)[..., None]).abs()
    others = distance.scatter(2, classes[..., None], float("inf"))
    return others.topk(min(RIVALS, logits.shape[1] - 1), dim=2, largest=False).indices


def checked_contrast(
    against: str | int | None, strength: float, class_names: Sequence[str]
) -> Contrast | None:
    """What ``against`` means: ``nearest``, or a class by name or index; None where it is None.

    Raises:
        UsageError: a classifier of one class, or a strength that is no number; TargetError: no such
            class.
    """
    if not isinstance(strength, int | float) or not isfinite(strength):
        raise UsageError(f"strength is {strength!r}: use a number, such as 1")
    if against is None:
        if strength != 1:
            raise UsageError("strength is of the class compared with: name that one (against)")
        return None
    if len(class_names) < 2:
        raise UsageError("a classifier of one class has nothing to compare it with")
    if against == NEAREST and NEAREST not in class_names:
        return Contrast(None, strength)
    (rival,) = label_indices([against], 1, class_names)
    return Contrast(rival, strength)
