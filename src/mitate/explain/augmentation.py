"""Smoothing by test-time augmentation: the mean map of an image and of its variants."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.explain.explanation import Explanation
from mitate.explain.flags import refound

# Factors of the preprocessed image and whether it is mirrored, as in grad-cam (Gildenblat 2021);
# the image itself comes first.
VARIANTS = tuple(product((1.0, 0.9, 1.1), (False, True)))
Explain = Callable[[Tensor, Tensor | None], Explanation]


def averaged(explain: Explain, inputs: Float[Tensor, "b channels *pixels"]) -> Explanation:
    """Explain images and their variants for the same classes, and average the maps.

    Args:
        explain: from images and classes (b, k), None for those of the images' own, to maps.
        inputs: the preprocessed images.
    """
    own = explain(inputs, None)
    maps = [own.maps, *(_of_variant(explain, inputs, own.classes, *v) for v in VARIANTS[1:])]
    mean = torch.stack(maps).mean(0)
    return replace(own, maps=mean, flags=refound(own.flags, mean), cost=own.cost * len(VARIANTS))


def _of_variant(
    explain: Explain,
    inputs: Float[Tensor, "b channels *pixels"],
    classes: Int[Tensor, "b k"],
    factor: float,
    mirrored: bool,
) -> Float[Tensor, "b k *cells"]:
    varied = inputs * factor
    maps = explain(varied.flip(-1) if mirrored else varied, classes).maps
    return maps.flip(-1) if mirrored else maps
