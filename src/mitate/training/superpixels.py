"""Maps that follow a photo's edges: averaged over its superpixels."""

import numpy as np
from jaxtyping import Float, UInt8

from mitate import imports

SIDE = 8  # pixels along a side of a superpixel, about: smaller than most things that are marked


def averaged(
    values: Float[np.ndarray, "H W"], pixels: UInt8[np.ndarray, "H W channels"]
) -> Float[np.ndarray, "H W"]:
    """Each value replaced by the mean over its superpixel (SLIC: Achanta et al. 2012).

    doi:10.1109/TPAMI.2012.120, as scikit-image has it.

    Args:
        values: of a map.
        pixels: the photo, RGB or grey, of the map's size.

    Raises:
        MissingExtraError: no scikit-image.
    """
    number = max(2, values.size // SIDE**2)
    coloured = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    segments = imports.skimage("segmentation").slic(coloured, n_segments=number, start_label=0)
    sums = np.bincount(segments.ravel(), weights=values.ravel())
    means = sums / np.bincount(segments.ravel())
    return np.asarray(means[segments], dtype=values.dtype)
