"""Teaching a classifier and its segmentation together; not every image needs a mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mitate import imports
from mitate.errors import UsageError
from mitate.models.classifier import Classifier
from mitate.models.decoder import Decoder, MultiTask, decoder_for
from mitate.training.losses import summed
from mitate.training.masks import LEVELS
from mitate.training.overlaps import Overlaps
from mitate.training.task import Task

REGION = "region"
Regions = Literal["one", "class"]


@dataclass(frozen=True)
class Supervision:
    """What masks teach.

    Attributes:
        regions: ``one`` region whatever the image's class, or one a ``class``.
        losses: of the segmentation, summed: ``dice``, ``jaccard``, ``tversky``, ``bce``, ``focal``.
        weight: of these beside the cross-entropy.
        uncertainty: let training find the weights of the two (Kendall et al. 2018).
    """

    regions: Regions = "one"
    losses: tuple[str, ...] = ("dice", "bce")
    weight: float = 1.0
    uncertainty: bool = False

    def checked(self) -> "Supervision":
        """This supervision, if it can be used.

        Raises:
            UsageError: an unknown loss or kind of region, or a weight that is not positive.
        """
        summed(self.losses)
        if self.regions not in ("one", "class"):
            raise UsageError(f"regions {self.regions!r}: use one, or class")
        if not 0 < self.weight < float("inf"):
            raise UsageError(f"a segmentation weight of {self.weight}: use a positive number")
        return self

    def names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """What the decoder tells apart from the background."""
        return (REGION,) if self.regions == "one" else tuple(class_names)


def region_truth(
    levels: Int[Tensor, "b h w"], labels: Int[Tensor, " b"], regions: int
) -> tuple[Float[Tensor, "b regions h w"], Bool[Tensor, "b 1 h w"]]:
    """Shares of each pixel in each region, and where they are known.

    With several regions a mask marks its image's class, and says that no other is there.
    """
    known = (levels >= 0)[:, None]
    shares = levels.clamp_min(0)[:, None] / LEVELS
    if regions > 1:
        shares = shares * F.one_hot(labels, regions)[:, :, None, None]
    return shares.float(), known


class Objective(nn.Module):
    """Cross-entropy of every image, and the segmentation's losses where a mask is known.

    With ``uncertainty`` each of the two is weighed by a variance that is learnt: exp(-s) L + s / 2
    with s the logarithm of the variance (Kendall, Gal and Cipolla 2018, arXiv:1705.07115, eq. 10).
    A batch without masks teaches the classification, and leaves the segmentation's variance alone.
    """

    def __init__(self, supervision: Supervision) -> None:
        super().__init__()
        self.segmentation = summed(supervision.losses)
        self.weight = supervision.weight
        self.log_variances = nn.Parameter(torch.zeros(2)) if supervision.uncertainty else None

    def forward(
        self,
        outputs: tuple[Float[Tensor, "b classes"], Float[Tensor, "b regions h w"]],
        levels: Int[Tensor, "b h w"],
        labels: Int[Tensor, " b"],
    ) -> Float[Tensor, ""]:
        """The loss of one batch."""
        logits, drawn = outputs
        losses = [F.cross_entropy(logits, labels)]
        truth, known = region_truth(levels, labels, drawn.shape[1])
        if known.any():
            losses.append(self.weight * self.segmentation(drawn, truth, known))
        if self.log_variances is not None:
            s = self.log_variances
            losses = [(-s[i]).exp() * loss + s[i] / 2 for i, loss in enumerate(losses)]
        return torch.stack(losses).sum()


class Taught(MultiTask):
    """Network, decoder and objective as one module, so that all of their weights are trained."""

    def __init__(self, network: nn.Module, decoder: Decoder, objective: Objective) -> None:
        super().__init__(network, decoder)
        self.objective = objective


def multi_task(network: nn.Module, decoder: Decoder, supervision: Supervision) -> Task:
    """Cross-entropy and the losses of a segmentation, on one backbone."""
    objective = Objective(supervision)
    head = network.get_classifier()  # type: ignore[operator]
    return Task(
        Taught(network, decoder, objective),
        objective,
        (accuracy, _dice()),
        (head, decoder, objective),
    )


def with_decoder(
    classifier: Classifier, supervision: Supervision, seed: int
) -> tuple[Classifier, Task]:
    """The classifier with a decoder of its own, and what teaches both.

    Raises:
        ClassifierError: a network whose intermediate features timm does not give.
    """
    height, width = classifier.preprocessing.size
    probe = torch.zeros(1, len(classifier.preprocessing.mean), height, width)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        regions = supervision.names(classifier.class_names)
        decoder = decoder_for(classifier.network, probe, regions)
    task = multi_task(classifier.network, decoder, supervision)
    return replace(classifier, decoder=decoder), task


def accuracy(outputs: tuple[Tensor, Tensor], levels: Tensor, labels: Tensor) -> Tensor:
    """The share of images whose class is right."""
    return (outputs[0].argmax(-1) == labels).float().mean()


def _dice() -> Any:
    """The Dice of all images of an epoch that have a mask, as fastai takes it."""
    vision = imports.fastai("vision.all")

    class Dice(vision.Metric):  # type: ignore[misc, name-defined]
        def reset(self) -> None:
            self.overlaps = Overlaps.none()

        def accumulate(self, learn: Any) -> None:
            levels, labels = learn.yb
            drawn = learn.pred[1].sigmoid()
            truth, known = region_truth(levels, labels, drawn.shape[1])
            self.overlaps += Overlaps.of(drawn, truth, known).summed()

        @property
        def value(self) -> float | None:
            return self.overlaps.dice()

        @property
        def name(self) -> str:
            return "dice"

    return Dice()
