"""Maps of small things: the layers' agreement, and the mask that is optimised from it."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from mitate.explain.methods.gradients import BACKWARD, gradcam, hirescam
from mitate.explain.methods.table import method
from mitate.tensors import relative_to_maximum, resize_maps

SHARPNESS = 2  # the power of the early layers' maps in glance
Layers = Sequence[tuple[Tensor, Tensor]]


@method(
    "glance",
    family="several layers",
    cost=BACKWARD,
    cite="mitate; Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74, and Draelos and Carin 2020, "
    "arXiv:2011.08891, multiplied as RefineCAM does, arXiv:2605.14641",
)
def glance(pyramid: Layers) -> Float[Tensor, "b k h w"]:
    """Grad-CAM at the last layer times the square of HiResCAM at an early one.

    The last layer knows the class and has large cells; the early one has small cells and takes
    any edge for the class. What both see is kept, on the early layer's grid; the square leaves
    less on faint edges. Of more layers, all but that of the largest cells give a HiResCAM.

    Args:
        pyramid: activations (b, c, h, w) and gradients (b, k, c, h, w) of each layer, the finest
            grid first.
    """
    return agreement(pyramid, SHARPNESS)


def agreement(pyramid: Layers, sharpness: int = 1) -> Float[Tensor, "b k h w"]:
    """Grad-CAM at the layer of the largest cells times powers of HiResCAM at the others."""
    maps = [hirescam(*layer) for layer in pyramid[:-1] or pyramid]
    activations, gradients = pyramid[-1]
    product: Tensor = gradcam(activations, gradients.mean((-2, -1)))
    for layer in reversed(maps):
        product = resize_maps(relative_to_maximum(product), layer.shape[-2:])
        product = product * relative_to_maximum(layer) ** sharpness
    return product
