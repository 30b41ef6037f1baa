"""Teaching a classifier, its segmentation and its maps; not every image needs a mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mitate import imports
from mitate.errors import UsageError
from mitate.explain.tap import TappedForward, watching
from mitate.models.classifier import Classifier
from mitate.models.decoder import Decoder, MultiTask, decoder_for
from mitate.training.guidance import Guide
from mitate.training.losses import summed
from mitate.training.masks import LEVELS
from mitate.training.overlaps import Overlaps
from mitate.training.start import seeded_weights
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
        guide: teach where the map of the true class lies, too; with a ``weight`` of 0, that alone,
            and the classifier gets no decoder.
        guide_weight: of that, beside the cross-entropy.
        plant: show marked regions in the surroundings of other photos with a mask, too; with a
            ``weight`` of 0 and without ``guide``, that alone.
        draw: train in three rounds: on the photos that have a mask; on all, with masks that the
            segmentation drew for the others; and on the former again.
    """

    regions: Regions = "one"
    losses: tuple[str, ...] = ("dice", "bce")
    weight: float = 1.0
    uncertainty: bool = False
    guide: bool = False
    guide_weight: float = 1.0
    plant: bool = False
    draw: bool = False

    def checked(self) -> "Supervision":
        """This supervision, if it can be used.

        Raises:
            UsageError: an unknown loss or kind of region, or a weight that is not positive.
        """
        summed(self.losses)
        if self.regions not in ("one", "class"):
            raise UsageError(f"regions {self.regions!r}: use one, or class")
        if not 0 <= self.weight < float("inf") or (
            self.weight == 0 and not (self.guide or self.plant)
        ):
            raise UsageError(
                f"a segmentation weight of {self.weight}: use a positive number, or 0 with guided "
                "maps or planted regions to teach these alone"
            )
        if self.draw and not self.weight:
            raise UsageError(
                "masks are drawn by the segmentation: give it a weight above 0, or draw none"
            )
        if not 0 < self.guide_weight < float("inf"):
            raise UsageError(f"a guide weight of {self.guide_weight}: use a positive number")
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


class Outputs(NamedTuple):
    """What a forward in training gives: logits of classes and regions, and what was tapped."""

    logits: Float[Tensor, "b classes"]
    drawn: Float[Tensor, "b regions h w"] | None = None
    tapped: TappedForward | None = None


class Objective(nn.Module):
    """Cross-entropy of every image, and what its mask teaches where one is known.

    With ``uncertainty`` classification and segmentation are each weighed by a variance that is
    learnt: exp(-s) L + s / 2 with s the logarithm of the variance (Kendall, Gal and Cipolla 2018,
    arXiv:1705.07115, eq. 10). A batch without masks teaches the classification, and leaves the
    segmentation's variance alone.
    """

    def __init__(self, supervision: Supervision, guide: Guide | None = None) -> None:
        super().__init__()
        self.supervision, self.guide = supervision, guide
        self.segmentation = summed(supervision.losses)
        learnt = nn.Parameter(torch.zeros(2)) if supervision.uncertainty else None
        self.log_variances = learnt

    def forward(
        self, outputs: Outputs, levels: Int[Tensor, "b h w"], labels: Int[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """The loss of one batch."""
        losses = [F.cross_entropy(outputs.logits, labels)]
        if outputs.drawn is not None:
            truth, known = region_truth(levels, labels, outputs.drawn.shape[1])
            if known.any():
                loss = self.segmentation(outputs.drawn, truth, known)
                losses.append(self.supervision.weight * loss)
        if self.log_variances is not None:
            s = self.log_variances
            losses = [(-s[i]).exp() * loss + s[i] / 2 for i, loss in enumerate(losses)]
        if self.guide is not None and outputs.tapped is not None:
            outside = self.guide(outputs.tapped, levels, labels)
            if outside is not None:
                losses.append(self.supervision.guide_weight * outside)
        return torch.stack(losses).sum()


class Taught(nn.Module):
    """Network, decoder and objective as one module, so that all of their weights are trained."""

    def __init__(self, network: nn.Module, decoder: Decoder | None, objective: Objective) -> None:
        super().__init__()
        self.inner = network if decoder is None else MultiTask(network, decoder)
        self.objective = objective

    def forward(self, inputs: Float[Tensor, "b c H W"]) -> Outputs:
        """One forward of everything; where maps are guided, with what their layer gave."""
        guide = self.objective.guide
        if guide is None:
            return self._outputs(inputs)
        with watching([guide.place]) as tapped:
            outputs = self._outputs(inputs)
            return outputs._replace(tapped=tapped(outputs.logits))

    def _outputs(self, inputs: Tensor) -> Outputs:
        given = self.inner(inputs)
        return Outputs(*given) if isinstance(self.inner, MultiTask) else Outputs(given)


def with_masks(
    classifier: Classifier, supervision: Supervision, seed: int
) -> tuple[Classifier, Task]:
    """The classifier, with a decoder of its own where one is taught, and what teaches it.

    Raises:
        ClassifierError: a network whose intermediate features timm does not give; LayerError: one
        without a layer whose maps could be guided.
    """
    network = classifier.network
    decoder = _new_decoder(classifier, supervision, seed) if supervision.weight else None
    guide = Guide.of(classifier) if supervision.guide else None
    objective = Objective(supervision, guide)
    fresh = [network.get_classifier(), objective]  # type: ignore[operator]
    task = Task(
        Taught(network, decoder, objective),
        objective,
        (accuracy, _dice()) if decoder else (accuracy,),
        [*fresh, decoder] if decoder else fresh,
    )
    return replace(classifier, decoder=decoder), task


def _new_decoder(classifier: Classifier, supervision: Supervision, seed: int) -> Decoder:
    height, width = classifier.preprocessing.size
    probe = torch.zeros(1, len(classifier.preprocessing.mean), height, width)
    with seeded_weights(seed):
        regions = supervision.names(classifier.class_names)
        return decoder_for(classifier.network, probe, regions)


def accuracy(outputs: Outputs, levels: Tensor, labels: Tensor) -> Tensor:
    """The share of images whose class is right."""
    return (outputs.logits.argmax(-1) == labels).float().mean()


def _dice() -> Any:
    """The Dice of all images of an epoch that have a mask, as fastai takes it."""
    vision = imports.fastai("vision.all")

    class Dice(vision.Metric):  # type: ignore[misc, name-defined]
        def reset(self) -> None:
            self.overlaps = Overlaps.none()

        def accumulate(self, learn: Any) -> None:
            levels, labels = learn.yb
            drawn = learn.pred.drawn.sigmoid()
            truth, known = region_truth(levels, labels, drawn.shape[1])
            self.overlaps += Overlaps.of(drawn, truth, known).summed()

        @property
        def value(self) -> float | None:
            return self.overlaps.dice()

        @property
        def name(self) -> str:
            return "dice"

    return Dice()
