"""Background in the place of a region: noisy linear imputation."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mitate.errors import UsageError
from mitate.imputing import NOISE, impute_region
from mitate.tensors import at_least_single

CYCLES = 3  # a decision is asked for, not an average: a tenth of the noise at most


def background(
    images: Float[Tensor, "b channels H W"],
    region: Bool[np.ndarray, "H W"],
    generators: Sequence[torch.Generator],
) -> Float[Tensor, "b channels H W"]:
    """Copies of images with a region filled with what surrounds it, and a little noise.

    The noise is 1 % of the range of what is left of each image, which knows nothing of what was
    hidden (Rong et al. 2022, ROAD, sec. 4.2, arXiv:2202.00449).

    Args:
        images: preprocessed.
        region: what is hidden, the same of all.
        generators: one an image, on the CPU.

    Raises:
        UsageError: the region is empty, or the whole image, which leaves nothing to fill from.
    """
    if not region.any() or region.all():
        raise UsageError("a region to impute has a pixel, and leaves one of the image")
    hidden = torch.from_numpy(region).to(images.device)
    given = at_least_single(images)
    smooth = impute_region(given, hidden, cycles=CYCLES)
    left = given[..., ~hidden].flatten(1)
    spread = NOISE * (left.amax(1) - left.amin(1))
    drawn = [
        torch.randn(image.shape, generator=generator, dtype=torch.float64)
        for image, generator in zip(images, generators, strict=True)
    ]
    noise = spread[:, None, None, None] * torch.stack(drawn).to(given)
    return torch.where(hidden, smooth + noise, given).to(images.dtype)
