"""Trying whether a network takes inputs of a size, before any work is done with it."""

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.errors import UsageError
from mitate.models.classifier import Classifier
from mitate.tensors import generator_of


def probe(
    classifier: Classifier, size: tuple[int, int] | None = None
) -> Float[Tensor, "1 channels H W"]:
    """An image of noise as the network takes it, the same every time.

    Args:
        classifier: whose channels and size it has.
        size: another height and width.
    """
    channels = len(classifier.preprocessing.mean)
    shape = (1, channels, *(size or classifier.preprocessing.size))
    return torch.randn(shape, generator=generator_of("probe"))


def check_takes(classifier: Classifier, size: tuple[int, int]) -> None:
    """Run one forward of zeros; some networks take no small images, or sizes of certain steps only.

    Raises:
        UsageError: the network cannot take inputs of this height and width.
    """
    height, width = size
    probe = torch.zeros(1, len(classifier.preprocessing.mean), height, width)
    try:
        classifier.logits(probe)
    except (RuntimeError, AssertionError, ValueError) as exc:
        name = classifier.reference or type(classifier.network).__name__
        why = (str(exc).splitlines() or [type(exc).__name__])[0].rstrip(".")
        raise UsageError(
            f"{name} takes no images of {height}x{width} px ({why}): use another size"
        ) from exc
