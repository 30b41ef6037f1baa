"""Methods that weight a layer's activations by the gradients of the class score."""

from jaxtyping import Float
from torch import Tensor, einsum

from mitate.explain.methods.table import Cost, Needs, method


@method(
    "gradcam",
    needs=Needs.GRADIENTS,
    family="gradients",
    cost=Cost(1, per_class=2),
    cite="Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74",
)
def gradcam(
    activations: Float[Tensor, "b c h w"], gradients: Float[Tensor, "b k c h w"]
) -> Float[Tensor, "b k h w"]:
    """Channels weighted by their mean gradient, summed, positive part (eq. 1-2)."""
    weights = gradients.mean((-2, -1))
    return einsum("bkc,bchw->bkhw", weights, activations).relu()
