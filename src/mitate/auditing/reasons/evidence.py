"""Where and by what each image is decided: its map, and the activations under the map."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.auditing.localisation import energy_share
from mitate.auditing.reasons.photos import Batch, Images
from mitate.errors import ImageError, UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.methods import find_method
from mitate.explain.places import Places
from mitate.explain.tap import tapped_forward
from mitate.progress import Advance
from mitate.tensors import at_least_single, resize_maps

POOLED = 8


@dataclass(frozen=True)
class Decided:
    """What was seen of the images that could be read.

    Attributes:
        numbers: which of all images each row is.
        predicted: the class that each was decided to be.
        probability: of that class.
        labels: the true class, -1 where unknown.
        heat: the positive part of each map of the predicted class, as shares that add up to 1; NaN
            where the map is not finite or has no heat.
        what: activations of the layer, averaged with the heat as weights.
        on_mask: share of the heat on the mask; NaN without a mask.
        input_size: height and width of the network's input.
        layer: where the maps were made.
        forwards: what looking cost, in forward-equivalents.
    """

    numbers: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    heat: Float[np.ndarray, "n h w"]
    what: Float[np.ndarray, "n c"]
    on_mask: Float[np.ndarray, " n"]
    input_size: tuple[int, int]
    layer: str
    forwards: float

    @property
    def mapped(self) -> np.ndarray:
        """Whether each image has a map to go by."""
        return np.asarray(np.isfinite(self.heat).all((1, 2)) & np.isfinite(self.what).all(1))

    def probabilities(self, rows: Int[np.ndarray, " m"]) -> dict[int, float]:
        """Of the class that each of some images was decided to be, by the image's number."""
        return dict(zip(self.numbers[rows].tolist(), self.probability[rows].tolist(), strict=True))

    def features(self, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
        """Where and what of some images, side by side; each side has the same total variance.

        Where is the root of the map pooled to 8 x 8, so that distances are Hellinger's.
        """
        pooled = _pooled(torch.from_numpy(self.heat[rows]))
        return np.concatenate([_levelled(np.sqrt(pooled)), _levelled(self.what[rows])], axis=1)


def look(explainer: Explainer, images: Images, batch_size: int, advance: Advance) -> Decided:
    """Explain the predicted class of every image.

    Raises:
        UsageError: volumes, or a network of values; ImageError: none of the images can be read.
    """
    if explainer.classifier.task == "regression":
        raise UsageError("reasons are of classes, and this network gives values")
    looked = _Looked(explainer)
    for chosen in batches(range(len(images.names)), batch_size):
        batch = images.read(chosen)
        if batch is not None:
            looked.add(batch)
        advance(len(chosen))
    return looked.decided(images)


def batches(numbers: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """Numbers in parts of the batch size."""
    return [numbers[start : start + batch_size] for start in range(0, len(numbers), batch_size)]


def shares(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """The positive part of each map as shares of its sum; NaN where there is none."""
    positive = at_least_single(maps).clamp_min(0)
    total = positive.sum((1, 2), keepdim=True)
    sound = maps.isfinite().all(2, keepdim=True).all(1, keepdim=True) & (total > 0)
    return torch.where(sound, positive / total, torch.nan)


@dataclass
class _Looked:
    """Collects what is seen, batch by batch."""

    explainer: Explainer
    numbers: list[int] = field(default_factory=list)
    parts: list[tuple[Tensor, ...]] = field(default_factory=list)
    input_size: tuple[int, int] = (0, 0)
    layer: str = ""
    forwards: float = 0

    @cached_property
    def auto(self) -> Places:
        return Places(self.explainer.classifier, find_method("gradcam"), ["auto"])

    def add(self, batch: Batch) -> None:
        explanation = self.explainer(batch.inputs, top_k=1)
        maps = explanation.maps[:, 0].cpu()
        if maps.ndim != 3:
            raise UsageError("reasons are found of images, and these are volumes")
        heat, activations = shares(maps), self._activations(batch.inputs)
        weights = resize_maps(heat[:, None], activations.shape[-2:])
        weights = weights / weights.sum((2, 3), keepdim=True)
        what = (weights.to(activations) * activations).sum((2, 3))
        on_mask = energy_share(maps, batch.masks)
        likely = explanation.probabilities[:, 0].cpu().double()
        predicted = explanation.predicted.cpu()
        self.parts.append((predicted, likely, heat.float(), what.float(), on_mask))
        self.numbers += batch.numbers
        self.input_size = (batch.inputs.shape[-2], batch.inputs.shape[-1])
        self.layer = explanation.layer
        self.forwards += (explanation.cost + 1) * len(batch.inputs)

    def decided(self, images: Images) -> Decided:
        if not self.parts:
            raise ImageError("none of the images can be read: check the paths")
        predicted, likely, heat, what, on_mask = (
            torch.cat(part).numpy() for part in zip(*self.parts, strict=True)
        )
        rows = np.asarray(self.numbers)
        labels = np.asarray(images.labels)[rows]
        return Decided(
            rows,
            predicted,
            likely,
            labels,
            heat,
            what,
            on_mask,
            self.input_size,
            self.layer,
            self.forwards,
        )

    def _activations(self, inputs: Tensor) -> Float[Tensor, "b c h w"]:
        """What the last of the explainer's layers gives, which one more forward tells.

        For a method of pixels it is the layer that ``auto`` takes.
        """
        classifier, places = self.explainer.classifier, self.explainer.places
        place = (places.found(inputs) or self.auto.found(inputs))[-1]
        forward = tapped_forward(classifier.network, inputs, [place], read=classifier.read)
        given = forward.activations[0]
        return at_least_single(places.grid(place, inputs, given).spatial(given)).cpu()


def _pooled(heat: Float[Tensor, "n h w"]) -> Float[np.ndarray, "n cells"]:
    """Heat summed over at most 8 x 8 parts of the image."""
    size = (min(POOLED, heat.shape[1]), min(POOLED, heat.shape[2]))
    pooled = torch.nn.functional.adaptive_avg_pool2d(heat[:, None], size)
    return (pooled / pooled.sum((2, 3), keepdim=True)).flatten(1).double().numpy()


def _levelled(block: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Columns centred, and divided by the root of their total variance."""
    centred = block.astype(np.float64) - block.mean(0, dtype=np.float64)
    spread = np.sqrt((centred**2).sum() / len(block))
    return np.asarray(centred / spread if spread > 1e-12 else 0 * centred)
