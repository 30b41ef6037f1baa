"""Photos that other libraries' preprocessing is tried on, beside mitate's."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

PROBES = ((320, 240), (240, 320))
TOLERANCE = 2 / 255  # of the range of colours: two levels, by which rounded colours may differ


def probe(size: tuple[int, int]) -> Image.Image:
    """A photo without edges, with another slope in each channel."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    across, down = x / (width - 1), y / (height - 1)
    channels = np.stack([across, down, 0.25 + 0.5 * (1 - across) * down], -1)
    return Image.fromarray((255 * channels).round().astype(np.uint8))


def apart(theirs: Tensor, ours: Float[Tensor, "channels H W"], std: Sequence[float]) -> float:
    """How far two inputs of a photo are from each other: the mean, in shares of the range."""
    return float(((theirs - ours) * torch.tensor(std)[:, None, None]).abs().mean())
