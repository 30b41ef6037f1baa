"""What a user gives to be explained, as a batch for the network and pictures to draw on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from mitate.data.decoding import read_image, to_rgb
from mitate.errors import ImageError, UsageError
from mitate.models.classifier import Classifier

COLOURS = 3
Photo = str | Path | Image.Image | np.ndarray
Images = Tensor | Photo | Sequence[Photo] | Sequence[Tensor]


@dataclass(frozen=True)
class Batch:
    """Images that are ready to be explained.

    Attributes:
        inputs: the network's input, on its device.
        pictures: what the network sees of each photo; None where that cannot be told.
        names: one name an image; none for tensors.
    """

    inputs: Float[Tensor, "b channels *pixels"]
    pictures: tuple[Image.Image, ...] | None
    names: tuple[str, ...] = ()


def prepare(classifier: Classifier, images: Images) -> Batch:
    """Bring photos or preprocessed tensors to the network's input.

    Raises:
        UsageError: no image, or a tensor of another shape; ImageError: a photo that cannot be read,
        or values that are not finite after preprocessing.
    """
    if isinstance(images, Tensor):
        return _of_tensor(classifier, images)
    if isinstance(images, Mapping):
        within = ", ".join(map(repr, list(images)[:4]))
        raise UsageError(
            f"images are a dict of {within}: give what it holds, such as images['pixel_values']; "
            "a network of several inputs is explained through a module that takes one"
        )
    given: list[Any] = [images] if isinstance(images, Photo) else list(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        given = list(images)
    if not given:
        raise UsageError("there is no image to explain: give at least one")
    if all(isinstance(image, Tensor) for image in given):
        return _of_tensor(classifier, _stacked(given))
    photos = [as_photo(image) for image in given]
    names = tuple(
        Path(image).name if isinstance(image, str | Path) else f"image {index}"
        for index, image in enumerate(given)
    )
    pictures = tuple(classifier.preprocessing.view(photo) for photo in photos)
    return Batch(_finite(classifier.inputs(photos), names), pictures, names)


def as_photo(image: Any) -> Image.Image:
    """An upright RGB photo of a path, a PIL image or an array (H, W, 3) of bytes.

    Raises:
        ImageError: none of these, or a photo that cannot be read.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return _decoded(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and _is_picture(image.shape):
        return to_rgb(Image.fromarray(image.squeeze(-1) if image.shape[2:] == (1,) else image))
    what = f" {image.dtype} {image.shape}" if isinstance(image, np.ndarray) else ""
    raise ImageError(
        f"a {type(image).__name__}{what} is no image: give paths, PIL images, uint8 arrays "
        "(H, W, 3) or one preprocessed tensor"
    )


def _is_picture(shape: tuple[int, ...]) -> bool:
    return min(shape) > 0 and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)))


def _decoded(image: Image.Image) -> Image.Image:
    try:
        return to_rgb(ImageOps.exif_transpose(image))
    except Exception as exc:  # Pillow decodes only now, and raises nearly anything
        name = getattr(image, "filename", "") or "an image"
        raise ImageError(
            f"{name} cannot be decoded ({exc}): copy it again or leave it out"
        ) from exc


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise UsageError(
            f"the tensors have different shapes ({', '.join(map(str, sorted(shapes)))}): give one "
            "batch of images of one size"
        )
    return torch.stack(list(tensors))


def _of_tensor(classifier: Classifier, tensor: Tensor) -> Batch:
    batch = tensor[None] if tensor.ndim == 3 else tensor
    if batch.ndim not in (4, 5) or not batch.is_floating_point() or batch.numel() == 0:
        raise UsageError(
            f"images are a {tensor.dtype} tensor of shape {tuple(tensor.shape)}; expected a "
            "preprocessed float batch (images, channels, height, width), or of volumes with a "
            "depth before the height"
        )
    colours = len(classifier.preprocessing.mean)
    if batch.ndim == 4 and batch.shape[1] > batch.shape[3] == colours == COLOURS:
        raise UsageError(
            f"images are of shape {tuple(tensor.shape)}, with their colours last; networks take "
            "them first: give images.permute(0, 3, 1, 2)"
        )
    inputs = _finite(batch.detach().to(classifier.device, classifier.dtype))
    return Batch(inputs, _guessed(classifier, inputs))


def _finite(inputs: Tensor, names: Sequence[str] = ()) -> Tensor:
    ends = torch.stack(inputs.aminmax())  # in one pass; a NaN is both
    if ends.isfinite().all():
        return inputs
    finite = inputs.flatten(1).isfinite().all(1).tolist()
    bad = [names[i] if names else str(i) for i, good in enumerate(finite) if not good]
    if bad:
        raise ImageError(
            f"after preprocessing, image(s) {', '.join(bad[:4])} hold values that are not finite: "
            "check the pixels and the preprocessing's std"
        )
    return inputs


def _guessed(classifier: Classifier, inputs: Tensor) -> tuple[Image.Image, ...] | None:
    """Pictures of tensors, as the classifier's own normalisation would undo them."""
    if inputs.ndim == 5 or inputs.shape[1] != len(classifier.preprocessing.mean):
        return None
    pixels = classifier.preprocessing.denormalize(inputs)
    return tuple(Image.fromarray(picture) for picture in pixels)
