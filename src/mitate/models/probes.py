"""Photos that other libraries' preprocessing is tried on, beside mitate's."""

import numpy as np
from PIL import Image

PROBES = ((320, 240), (240, 320))
TOLERANCE = 2 / 255  # of the range of colours: two levels, by which rounded colours may differ


def probe(size: tuple[int, int]) -> Image.Image:
    """A photo without edges, with another slope in each channel."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    across, down = x / (width - 1), y / (height - 1)
    channels = np.stack([across, down, 0.25 + 0.5 * (1 - across) * down], -1)
    return Image.fromarray((255 * channels).round().astype(np.uint8))
