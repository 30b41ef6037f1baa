"""Methods that take a layer's activations apart, without asking for a class or by its weights."""

from jaxtyping import Float, Int
from torch import Tensor

from mitate.explain.head import Head
from mitate.explain.methods.components import first_component
from mitate.explain.methods.table import Cost, method, summed, weighting


@weighting(
    "cam",
    family="weights",
    cost=Cost(1),
    cite="Zhou et al. 2016, doi:10.1109/CVPR.2016.319",
)
def cam(
    activations: Float[Tensor, "b c h w"], head: Head, classes: Int[Tensor, "b k"]
) -> Float[Tensor, "b k c"]:
    """Channels weighted by the class's weights in the linear head (eq. 2), positive part.

    With a layer norm between pooling and head, as in ConvNeXt, the weights are those in front of
    it, its deviation taken as the image's own.
    """
    return head.of(classes)


@method(
    "eigencam",
    family="decomposition",
    cost=Cost(1),
    cite="Muhammad and Yeasin 2020, doi:10.1109/IJCNN48605.2020.9206626",
)
def eigencam(
    activations: Float[Tensor, "b c h w"], classes: Int[Tensor, "b k"], *, signed: bool = False
) -> Float[Tensor, "b k h w"]:
    """Activations on their first principal direction: the same for every class.

    The decomposition is the paper's, without centring (grad-cam centres over cells). Its sign,
    which is arbitrary, is the one that points the way of the sum over channels.
    """
    maps = first_component(activations)
    kept = maps if signed else maps.relu()
    return kept[:, None].expand(-1, classes.shape[1], -1, -1).clone()


@method(
    "eigengradcam",
    family="decomposition",
    cost=Cost(1, per_class=2),
    cite="Muhammad and Yeasin 2020, doi:10.1109/IJCNN48605.2020.9206626 (grad-cam's variant)",
)
def eigengradcam(
    activations: Float[Tensor, "b c h w"],
    gradients: Float[Tensor, "b k c h w"],
    *,
    signed: bool = False,
) -> Float[Tensor, "b k h w"]:
    """Activations times gradients on their first principal direction."""
    return summed(activations, gradients, signed=signed, principal=True)


@method(
    "fem",
    family="decomposition",
    cost=Cost(1),
    cite="Fuad et al. 2020, doi:10.1109/IPTA50016.2020.9286629",
)
def fem(
    activations: Float[Tensor, "b c h w"], classes: Int[Tensor, "b k"], *, deviations: float = 2.0
) -> Float[Tensor, "b k h w"]:
    """Where channels rise above their mean by ``deviations``, weighted by that mean.

    The same for every class.
    """
    mean = activations.mean((-2, -1), keepdim=True)
    spread = activations.std((-2, -1), correction=0, keepdim=True)
    high = (activations > mean + deviations * spread).to(activations.dtype)
    maps = (high * mean).sum(1).relu()
    return maps[:, None].expand(-1, classes.shape[1], -1, -1).clone()
