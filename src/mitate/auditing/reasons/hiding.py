"""The causal check: what the network decides once a region is replaced by background."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mitate.auditing.intervals import Interval, mean_interval, paired_interval
from mitate.auditing.reasons.evidence import batches
from mitate.auditing.reasons.imputation import background
from mitate.auditing.reasons.photos import Batch, Images
from mitate.auditing.reasons.regions import elsewhere
from mitate.models.classifier import Classifier
from mitate.models.tasks import likelihood
from mitate.tensors import generators

PLACES = 8


@dataclass(frozen=True)
class Hidden:
    """What hiding a region does, image by image, and hiding as much elsewhere.

    Attributes:
        flips: 1 where another class is decided with the region hidden, else 0.
        falls: by how much the probability of the class falls.
        flips_elsewhere: the same for random places of the same shape and size, averaged over them;
            NaN where the region has no room to lie elsewhere.
        falls_elsewhere: likewise.
        marked: share of the region that the image's mask marks, less the share of the whole image
            that it marks; NaN without a mask or with an empty one.
        forwards: how many were run.
    """

    flips: Float[np.ndarray, " n"]
    falls: Float[np.ndarray, " n"]
    flips_elsewhere: Float[np.ndarray, " n"]
    falls_elsewhere: Float[np.ndarray, " n"]
    marked: Float[np.ndarray, " n"]
    forwards: int

    @property
    def rate(self) -> Interval:
        """How often hiding the region flips the decision."""
        return mean_interval(self.flips)

    @property
    def rate_elsewhere(self) -> Interval:
        """How often hiding as much elsewhere does."""
        return mean_interval(self.flips_elsewhere)

    @property
    def excess(self) -> Interval:
        """How much more often the region than the random places, on the same images."""
        return paired_interval(self.flips, self.flips_elsewhere)


@dataclass(frozen=True)
class Tried:
    """What hiding each of some places does to images that are decided to be one class.

    Attributes:
        numbers: the images that could be read.
        flips: 1 where another class is decided with the place hidden, else 0.
        falls: by how much the probability of the class falls.
        marked: share of the place that the image's mask marks, less the share of the whole image
            that it marks; NaN without a mask or with an empty one.
    """

    numbers: tuple[int, ...]
    flips: Float[np.ndarray, "n places"]
    falls: Float[np.ndarray, "n places"]
    marked: Float[np.ndarray, "n places"]

    @property
    def forwards(self) -> int:
        """How many were run."""
        return self.flips.size


def hide(
    classifier: Classifier,
    images: Images,
    probabilities: Mapping[int, float],
    decided: int,
    region: Bool[np.ndarray, "H W"],
    *,
    seed: int,
    batch_size: int,
) -> Hidden:
    """Replace a region of images, and random places like it, and see whether the decision holds.

    Args:
        classifier: what decides.
        images: where they are read.
        probabilities: of the decided class for each of the images, by its number.
        decided: the class that all of them were decided to be.
        region: what is hidden.
        seed: of the random places and of the noise of the imputation.
        batch_size: images in one forward.
    """
    others = elsewhere(region, PLACES, np.random.default_rng(seed))
    tried = try_places(
        classifier,
        images,
        probabilities,
        decided,
        (region, *others),
        seed=seed,
        batch_size=batch_size,
    )
    return Hidden(
        tried.flips[:, 0],
        tried.falls[:, 0],
        mean_over_places(tried.flips[:, 1:]),
        mean_over_places(tried.falls[:, 1:]),
        tried.marked[:, 0],
        tried.forwards,
    )


def try_places(
    classifier: Classifier,
    images: Images,
    probabilities: Mapping[int, float],
    decided: int,
    places: Sequence[Bool[np.ndarray, "H W"]],
    *,
    seed: int,
    batch_size: int,
) -> Tried:
    """Replace each of some places of images by background, one at a time.

    Args:
        classifier: what decides.
        images: where they are read.
        probabilities: of the decided class for each of the images, by its number.
        decided: the class that all of them were decided to be.
        places: what is hidden.
        seed: of the noise of the imputation.
        batch_size: images in one forward.
    """
    numbers: list[int] = []
    parts: list[tuple[Tensor, ...]] = []
    for chosen in batches(list(probabilities), batch_size):
        batch = images.read(chosen)
        if batch is not None:
            whole = torch.tensor([probabilities[n] for n in batch.numbers], dtype=torch.float64)
            judged = _judged(classifier, batch, decided, whole, places, seed)
            parts.append((*judged, _marked(batch.masks, places)))
            numbers += batch.numbers
    if not parts:
        nothing = np.zeros((0, len(places)))
        return Tried((), nothing, nothing, nothing)
    flips, falls, marked = (torch.cat(part).double().numpy() for part in zip(*parts, strict=True))
    return Tried(tuple(numbers), flips, falls, marked)


def mean_over_places(columns: Float[np.ndarray, "n places"]) -> Float[np.ndarray, " n"]:
    """The mean of each image; NaN where there is no place."""
    return columns.mean(1) if columns.shape[1] else np.full(len(columns), np.nan)


def _judged(
    classifier: Classifier,
    batch: Batch,
    decided: int,
    whole: Float[Tensor, " b"],
    places: Sequence[Bool[np.ndarray, "H W"]],
    seed: int,
) -> tuple[Float[Tensor, "b places"], Float[Tensor, "b places"]]:
    """Whether hiding each place flips the decision, and by how much the class falls."""
    drawn = generators(seed, list(batch.inputs))
    flips, falls = [], []
    for place in places:
        logits = classifier.logits(background(batch.inputs, place, drawn)).cpu().double()
        likely = likelihood(classifier.task, logits)
        flips.append(likely.argmax(1) != decided)
        falls.append(whole - likely[:, decided])
    return torch.stack(flips, 1).double(), torch.stack(falls, 1)


def _marked(
    masks: Float[Tensor, "b H W"], places: Sequence[Bool[np.ndarray, "H W"]]
) -> Float[Tensor, "b places"]:
    everywhere = masks.mean((1, 2))
    inside = [masks[:, torch.from_numpy(place)].mean(1) - everywhere for place in places]
    return torch.where(everywhere[:, None] > 0, torch.stack(inside, 1), torch.nan)
