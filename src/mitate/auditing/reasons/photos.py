"""The images of an audit, read again when they are needed: memory follows the batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mitate.data.decoding import read_image
from mitate.data.masks import WITHOUT, Masks
from mitate.data.records import Record
from mitate.errors import ImageError, UsageError
from mitate.explain.inputs import prepare
from mitate.explain.targets import UNKNOWN, Labels, label_indices
from mitate.models.classifier import Classifier


@dataclass(frozen=True)
class Batch:
    """Some of the images.

    Attributes:
        numbers: which of all images these are.
        inputs: preprocessed.
        masks: the share of each pixel that belongs to the true region; NaN where none is known.
    """

    numbers: tuple[int, ...]
    inputs: Float[Tensor, "b channels H W"]
    masks: Float[Tensor, "b H W"]


@dataclass(frozen=True)
class Recorded:
    """Photos on disk, read anew each time; what cannot be read is told in ``failures``.

    Attributes:
        classifier: whose preprocessing they get.
        records: where they are.
        labels: the true class of each, -1 where unknown.
        masks: the true regions.
        mask_value: the value of index masks that marks the region.
        root: the folder from which photos are named.
        failures: why, by number.
    """

    classifier: Classifier
    records: tuple[Record, ...]
    labels: tuple[int, ...]
    masks: Masks | None = None
    mask_value: int | None = None
    root: Path | None = None
    failures: dict[int, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The paths below ``root``; elsewhere and without it, as they were given."""
        return tuple(_below(self.root, record.path) for record in self.records)

    def read(self, numbers: Sequence[int]) -> Batch | None:
        """Decode photos and bring them and their masks to the network's input.

        Those that cannot be read are left out; None where none can.
        """
        kept, photos, masks = [], [], []
        for number in numbers:
            try:
                photo = read_image(self.records[number].path)
            except ImageError as exc:
                self.failures[number] = str(exc)
                continue
            kept.append(number)
            photos.append(photo)
            masks.append(self._mask(number, photo.size))
        if not kept:
            return None
        stacked = torch.from_numpy(np.stack(masks))
        return Batch(tuple(kept), self.classifier.inputs(photos), stacked)

    def _mask(self, number: int, size: tuple[int, int]) -> np.ndarray:
        path, drawn = self.records[number].path, None
        if self.masks is not None:
            try:
                drawn = self.masks.read(path, size, value=self.mask_value)
            except ImageError as exc:
                self.failures[number] = f"{exc}{WITHOUT}"
        if drawn is None:
            return np.full(self.classifier.preprocessing.size, np.nan, dtype=np.float32)
        return self.classifier.preprocessing.mask(drawn)


@dataclass(frozen=True)
class Stacked:
    """Preprocessed images in one tensor, with their true classes and masks."""

    inputs: Float[Tensor, "n channels H W"]
    labels: tuple[int, ...]
    masks: Float[Tensor, "n H W"] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Their numbers, as they have no names."""
        return tuple(f"image {number}" for number in range(len(self.inputs)))

    def read(self, numbers: Sequence[int]) -> Batch | None:
        """Take images out of the tensor."""
        chosen = list(numbers)
        inputs = self.inputs[chosen]
        unknown = torch.full((len(chosen), *inputs.shape[-2:]), torch.nan)
        masks = unknown if self.masks is None else self.masks[chosen].float().cpu()
        return Batch(tuple(chosen), inputs, masks)


Images = Recorded | Stacked


def images_of(
    classifier: Classifier,
    photos: Sequence[Record] | Tensor,
    *,
    labels: Labels | None = None,
    masks: Masks | Tensor | None = None,
    mask_value: int | None = None,
    root: Path | None = None,
) -> Images:
    """Images to audit, out of records or of one preprocessed tensor.

    Args:
        classifier: what they are for.
        photos: records, or a tensor (n, channels, H, W).
        labels: true classes as names or indices, None where unknown; records have their own, which
            these replace. A record's label that is no class counts as unknown.
        masks: the true regions: an index of mask files for records, a tensor (n, H, W) of shares in
            [0, 1] for a tensor.
        mask_value: the value of index masks that marks the region.
        root: the folder from which records are named.

    Raises:
        UsageError: no images, or masks of the other kind or of another shape; TargetError: labels
        that do not fit.
    """
    if len(photos) == 0:
        raise UsageError("there is no image to audit: give at least one")
    known = label_indices(labels, len(photos), classifier.class_names)
    if isinstance(photos, Tensor):
        if masks is not None and not isinstance(masks, Tensor):
            raise UsageError("masks of a tensor of images are a tensor (images, height, width)")
        if masks is not None and masks.shape != (len(photos), *photos.shape[-2:]):
            raise UsageError(
                f"masks are {tuple(masks.shape)} and the images {tuple(photos.shape)}: give one "
                "mask an image, of its height and width"
            )
        inputs = photos.detach().to(classifier.device, classifier.dtype)
        return Stacked(inputs, known or (UNKNOWN,) * len(photos), masks)
    if isinstance(masks, Tensor):
        raise UsageError("masks of records are files: give mitate.data.regions.open_masks(FOLDER)")
    once = {n: i for i, n in enumerate(classifier.class_names) if _only(classifier, n)}
    own = tuple(once.get(record.label or "", UNKNOWN) for record in photos)
    return Recorded(classifier, tuple(photos), known or own, masks, mask_value, root)


def _below(root: Path | None, path: Path) -> str:
    inside = root is not None and path.is_relative_to(root)
    return path.relative_to(root).as_posix() if root and inside else str(path)


def _only(classifier: Classifier, name: str) -> bool:
    return classifier.class_names.count(name) == 1


def picture_of(classifier: Classifier, images: Images, number: int) -> Image.Image | None:
    """What the network saw of one image; None where that cannot be told."""
    batch = images.read([number])
    pictures = None if batch is None else prepare(classifier, batch.inputs).pictures
    return pictures[0] if pictures else None
