"""What is audited: images in a stated order, opened a batch at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.targets import UNKNOWN
from mitate.models.classifier import Classifier
from mitate.models.tasks import likelihood
from mitate.tensors import digest_of

AUDITED = ("label", "predicted")


@dataclass(frozen=True)
class Batch:
    """Preprocessed images with their regions, and with the objects that these are on.

    A region without a pixel is none.
    """

    inputs: Float[Tensor, "b channels H W"]
    masks: Float[Tensor, "b H W"] | None = None
    objects: Float[Tensor, "b H W"] | None = None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Subjects:
    """Images of a data set.

    Attributes:
        names: one name an image.
        labels: the true class of each, -1 where it is not known.
        digests: SHA-256 of each image and of its mask.
        open: gives the images at some places of the list.
        masked: whether any image has a region.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    digests: tuple[str, ...]
    open: Callable[[Sequence[int]], Batch]
    masked: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labelled(self) -> bool:
        """Whether any image has a true class."""
        return any(label != UNKNOWN for label in self.labels)

    @property
    def digest(self) -> str:
        """SHA-256 of all images in their order, and of their labels."""
        lines = (f"{one} {label}" for one, label in zip(self.digests, self.labels, strict=True))
        return sha256("\n".join(lines).encode()).hexdigest()

    def shuffled(self, seed: int) -> "Subjects":
        """The same images in another order, so that the first of them are of all kinds."""
        return self.at(np.random.default_rng(seed).permutation(len(self)).tolist())

    def at(self, order: Sequence[int]) -> "Subjects":
        """The images at some places."""
        return replace(
            self,
            names=tuple(self.names[i] for i in order),
            labels=tuple(self.labels[i] for i in order),
            digests=tuple(self.digests[i] for i in order),
            open=lambda places: self.open([order[place] for place in places]),
        )

    def without_masks(self) -> "Subjects":
        """The same images, their regions unseen."""
        return replace(self, open=lambda p: Batch(self.open(p).inputs), masked=False)

    def predicted(self, classifier: Classifier, batch_size: int) -> Float[np.ndarray, "n classes"]:
        """The probabilities of every image's classes."""
        rows = [
            likelihood(classifier.task, classifier.logits(self.open(places).inputs).float()).cpu()
            for places in in_batches(range(len(self)), batch_size)
        ]
        found: np.ndarray = torch.cat(rows).cpu().double().numpy()
        return found


def subjects_of(
    inputs: Float[Tensor, "b channels H W"],
    *,
    names: Sequence[str] = (),
    labels: Sequence[int] = (),
    masks: Float[Tensor, "b H W"] | None = None,
) -> Subjects:
    """Images that are preprocessed already.

    Raises:
        UsageError: another number of masks than of images, or masks of another size.
    """
    number = len(inputs)
    if masks is not None and tuple(masks.shape) != (number, *inputs.shape[2:]):
        raise UsageError(
            f"masks of shape {tuple(masks.shape)} for images of {tuple(inputs.shape)}: give one of "
            "the images' height and width an image"
        )

    def opened(places: Sequence[int]) -> Batch:
        chosen = list(places)
        return Batch(inputs[chosen], None if masks is None else masks[chosen].float())

    return Subjects(
        tuple(names) or tuple(f"image {place}" for place in range(number)),
        tuple(labels) or (UNKNOWN,) * number,
        tuple(
            digest_of(inputs[place], *(() if masks is None else (masks[place],)))
            for place in range(number)
        ),
        opened,
        masked=masks is not None and bool((masks > 0).any()),
    )


def in_batches(places: Sequence[int], size: int) -> list[Sequence[int]]:
    """Some places, so many at a time."""
    return [places[start : start + size] for start in range(0, len(places), size)]


def audited_classes(
    labels: Sequence[int], predicted: Int[np.ndarray, " n"], audited: str
) -> Int[Tensor, " n"]:
    """The class of each image whose map is audited: the true one where it is known and asked for.

    Raises:
        UsageError: ``audited`` is neither label nor predicted.
    """
    if audited not in AUDITED:
        raise UsageError(f"audited={audited!r}: use one of {', '.join(AUDITED)}")
    known = torch.tensor(list(labels))
    best = torch.from_numpy(np.ascontiguousarray(predicted))
    return torch.where(known == UNKNOWN, best, known) if audited == "label" else best
