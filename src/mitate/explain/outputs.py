"""Targets that are no class: functions of a network's output, for images or for parts of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mitate.errors import TargetError
from mitate.tensors import at_least_single

Target = Callable[[Any], Tensor]
TargetFunctions = Target | Sequence[Target] | Mapping[str, Target]
ONE_EACH = (
    "a target is a function from the network's output for a batch to one score an image, a tensor "
    "(batch,), such as lambda logits: logits[:, 0]"
)
FEATURES = ("image_embeds", "pooler_output", "logits", "out")


@dataclass(frozen=True, eq=False)
class SimilarityTarget:
    """How much the network's output looks like an embedding: their cosine.

    Attributes:
        embedding: (d,), a tensor or array, of another image for instance.
    """

    embedding: Any

    def __call__(self, output: Any) -> Float[Tensor, " b"]:
        """Score outputs (b, d)."""
        features = _tensor(output).flatten(1)
        wanted = torch.as_tensor(self.embedding).detach().flatten().to(features)
        if features.shape[1] != len(wanted):
            raise TargetError(
                f"the network gives {features.shape[1]} features an image and the embedding has "
                f"{len(wanted)}: take the embedding from the same network"
            )
        return F.cosine_similarity(features, wanted[None])


@dataclass(frozen=True, eq=False)
class SegmentationTarget:
    """A class of a semantic segmentation, where a mask says: its mean logit there.

    Attributes:
        index: of the class.
        mask: (H, W), a tensor or array at the size of the network's output, not zero where the
            class is looked for; None takes all of it.
    """

    index: int
    mask: Any = None

    def __post_init__(self) -> None:
        """Refuse a mask of nothing."""
        if self.mask is not None and not torch.as_tensor(self.mask).any():
            raise TargetError("the mask has nothing in it: mark where the class is looked for")

    def __call__(self, output: Any) -> Float[Tensor, " b"]:
        """Score outputs (b, classes, H, W), or a dict or object that holds them."""
        planes = _tensor(output)
        if planes.ndim != 4 or not 0 <= self.index < planes.shape[1]:
            raise TargetError(
                f"class {self.index} of a segmentation was asked for and the network gives "
                f"{tuple(planes.shape)}: a segmentation is (batch, classes, height, width)"
            )
        logits = planes[:, self.index]
        if self.mask is None:
            return logits.mean((-2, -1))
        mask = torch.as_tensor(self.mask).to(logits.device) != 0
        if mask.shape != logits.shape[1:]:
            raise TargetError(
                f"the mask is {tuple(mask.shape)} and the output {tuple(logits.shape[1:])}: give "
                "one of that size"
            )
        inside = at_least_single(torch.where(mask, logits, 0)).sum((-2, -1))
        return (inside / mask.sum()).to(logits.dtype)


@dataclass(frozen=True, eq=False)
class DetectionTarget:
    """A detected object: the overlap with its box times the score of its class.

    The best of the image's detections counts, as in D-RISE (Petsiuk et al. 2021, eq. 2,
    doi:10.1109/CVPR46437.2021.01128), with the detector's score in place of the vector of its
    class probabilities, which torchvision's detectors do not give. An image without detections of
    the class scores 0.

    Attributes:
        box: x1, y1, x2, y2 in pixels, as torchvision gives them.
        label: the class.
    """

    box: tuple[float, float, float, float]
    label: int

    def __post_init__(self) -> None:
        """Refuse a box of nothing, such as x, y, width, height where it is small."""
        x1, y1, x2, y2 = self.box
        if not (x1 < x2 and y1 < y2):
            raise TargetError(
                f"the box {x1:g}, {y1:g}, {x2:g}, {y2:g} has nothing in it: give x1, y1, x2, y2 in "
                "pixels, of the upper left and the lower right corner"
            )

    def __call__(self, output: Any) -> Float[Tensor, " b"]:
        """Score a list of dicts with ``boxes`` (n, 4), ``labels`` (n,) and ``scores`` (n,)."""
        if not isinstance(output, list | tuple) or not all(
            isinstance(found, Mapping) and {"boxes", "labels", "scores"} <= set(found)
            for found in output
        ):
            raise TargetError(
                "a detection was asked for and the network gives something else than a list of "
                "dicts with boxes, labels and scores"
            )
        return torch.stack([self._of_image(found) for found in output])

    def _of_image(self, found: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        boxes, scores = found["boxes"], found["scores"]
        mine = found["labels"] == self.label
        if not mine.any():
            return scores.sum() * 0
        overlaps = _overlap(boxes[mine], boxes.new_tensor(self.box))
        return (overlaps * scores[mine]).max()


def named_functions(targets: object) -> dict[str, Target] | None:
    """Target functions by name; None where the targets are something else.

    Raises:
        TargetError: functions and classes mixed, or no function at all.
    """
    if isinstance(targets, Mapping):
        named = {str(name): function for name, function in targets.items()}
        if not named or not all(callable(function) for function in named.values()):
            raise TargetError("targets by name must be functions of the network's output")
        return named
    if callable(targets):
        return {_name(targets): targets}
    if not isinstance(targets, list | tuple) or not any(callable(one) for one in targets):
        return None
    if not all(callable(one) for one in targets):
        raise TargetError("targets must be all functions of the output, or all class indices")
    names = [_name(function) for function in targets]
    return {
        name if names.count(name) == 1 else f"{name} {place}": function
        for place, (name, function) in enumerate(zip(names, targets, strict=True), 1)
    }


def together(functions: Mapping[str, Target]) -> Callable[[Any], Float[Tensor, "b k"]]:
    """One function from a network's output to all targets' scores.

    Raises:
        TargetError: a function that does not give a score an image.
    """

    def read(output: Any) -> Tensor:
        scores = [function(output) for function in functions.values()]
        for name, score in zip(functions, scores, strict=True):
            if not isinstance(score, Tensor) or score.ndim != 1:
                found = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
                raise TargetError(f"the target {name!r} gives {found}: {ONE_EACH}")
        if len({len(score) for score in scores}) > 1:
            lengths = ", ".join(str(len(score)) for score in scores)
            raise TargetError(f"the targets give {lengths} scores for one batch: {ONE_EACH}")
        return torch.stack(scores, dim=1)

    return read


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _tensor(output: Any) -> Tensor:
    """The tensor of an output, or the one that such outputs are known to hold."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    held = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    for name in FEATURES:
        found = held.get(name)
        if isinstance(found, Tensor):
            return found
    raise TargetError(
        f"the network gives a {type(output).__name__} that this target cannot read: write a "
        "function from it to one score an image"
    )


def _overlap(boxes: Float[Tensor, "n 4"], box: Float[Tensor, " 4"]) -> Float[Tensor, " n"]:
    """Intersection over union."""
    low, high = torch.maximum(boxes[:, :2], box[:2]), torch.minimum(boxes[:, 2:], box[2:])
    common = (high - low).clamp_min(0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1) + (box[2:] - box[:2]).prod()
    return common / (areas - common)  # the target's own area is not zero
