"""Methods that take a layer's activations apart, without asking for a class or by its weights."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.components import first_component, first_of_kernel
from mitate.explain.head import Head
from mitate.explain.methods.table import Cost, method, summed, weighting

Kernel = Callable[[Tensor, float], Tensor]  # of the products of all cells with all, and gamma


def _rbf(products: Float[Tensor, "b n n"], gamma: float) -> Float[Tensor, "b n n"]:
    squares = products.diagonal(dim1=-2, dim2=-1)
    return torch.exp(gamma * (2 * products - squares[:, None] - squares[..., None]))


KERNELS: dict[str, Kernel] = {
    "sigmoid": lambda products, gamma: (gamma * products + 1).tanh(),
    "rbf": _rbf,
    "poly": lambda products, gamma: (gamma * products + 1) ** 3,
    "linear": lambda products, gamma: products,
}


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
    which is arbitrary, is the one that points the way of the sum over channels; where that is zero,
    as behind a plain layer norm, the one that makes what stands out positive.
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
    "kpcacam",
    family="decomposition",
    cost=Cost(1),
    cite="Karmani et al. 2024, arXiv:2410.00267",
)
def kpcacam(
    activations: Float[Tensor, "b c h w"],
    classes: Int[Tensor, "b k"],
    *,
    kernel: str = "sigmoid",
    gamma: float = 0.0,
    signed: bool = False,
) -> Float[Tensor, "b k h w"]:
    """Cells on the first principal component of a kernel of their channels: for every class alike.

    Channels are centred first, and the kernel is centred, as in grad-cam, which is the authors'
    code; the sign is fixed as in ``eigencam``. Time grows with the cube of the number of cells.

    Args:
        activations: what the layer gave.
        classes: of which each gets this map.
        kernel: ``sigmoid``, tanh(gamma x.y + 1), as in the paper; ``rbf``, exp(-gamma |x - y|^2);
            ``poly``, (gamma x.y + 1)^3; or ``linear``, x.y, which is the plain analysis.
        gamma: 0 takes one over the number of channels.
        signed: keep what lies on the other side of the mean.

    Raises:
        UsageError: no such kernel, or a negative gamma.
    """
    if kernel not in KERNELS or gamma < 0:
        raise UsageError(f"use kernel {', '.join(KERNELS)}, and gamma from 0")
    rows = activations.flatten(2).mT
    centred = rows - rows.mean(1, keepdim=True)
    products = centred @ centred.mT
    made = KERNELS[kernel](products, gamma or 1 / rows.shape[-1])
    flat = first_of_kernel(made, rows.sum(-1), rows.abs().sum(-1))
    maps = flat.reshape(-1, 1, *activations.shape[-2:])
    return (maps if signed else maps.relu()).expand(-1, classes.shape[1], -1, -1).clone()


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

    Raises:
        UsageError: a negative number of deviations.
    """
    if deviations < 0:
        raise UsageError(f"deviations is {deviations:g}: use 0 or more")
    mean = activations.mean((-2, -1), keepdim=True)
    spread = activations.std((-2, -1), correction=0, keepdim=True)
    high = (activations > mean + deviations * spread).to(activations.dtype)
    maps = (high * mean).sum(1).relu()
    return maps[:, None].expand(-1, classes.shape[1], -1, -1).clone()
