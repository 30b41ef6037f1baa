"""Methods that weight a layer's activations by the gradients of the class score."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, where

from mitate.errors import UsageError
from mitate.explain.methods.table import Cost, weighting

Noisy = Callable[[int, float], Iterator[tuple[Tensor, Tensor]]]
BACKWARD = Cost(1, per_class=2)
POLE = 1e-3  # the nearest that 2 + S g comes to zero where activations are negative


@weighting(
    "gradcam",
    family="gradients",
    cost=BACKWARD,
    cite="Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74",
)
def gradcam(
    activations: Float[Tensor, "b c h w"], mean_gradients: Float[Tensor, "b k c"]
) -> Float[Tensor, "b k c"]:
    """Channels weighted by their mean gradient, summed, positive part (eq. 1-2)."""
    return mean_gradients


@weighting(
    "hirescam",
    family="gradients",
    cost=BACKWARD,
    cite="Draelos and Carin 2020, arXiv:2011.08891",
)
def hirescam(
    activations: Float[Tensor, "b c h w"], gradients: Float[Tensor, "b k c h w"]
) -> Float[Tensor, "b k c h w"]:
    """Every cell weighted by its own gradient, summed, positive part."""
    return gradients


@weighting(
    "elementwise",
    family="gradients",
    cost=BACKWARD,
    cite="Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74 (as in grad-cam, Gildenblat 2021)",
)
def elementwise(
    activations: Float[Tensor, "b c h w"], gradients: Float[Tensor, "b k c h w"]
) -> Float[Tensor, "b k c h w"]:
    """Like HiResCAM, with the positive part of each channel before the sum."""
    return where(gradients * activations[:, None] > 0, gradients, 0)


@weighting(
    "layercam",
    family="gradients",
    cost=BACKWARD,
    cite="Jiang et al. 2021, doi:10.1109/TIP.2021.3089943",
)
def layercam(
    activations: Float[Tensor, "b c h w"], gradients: Float[Tensor, "b k c h w"]
) -> Float[Tensor, "b k c h w"]:
    """Every cell weighted by the positive part of its own gradient (eq. 6-8)."""
    return gradients.relu()


@weighting(
    "xgradcam",
    family="gradients",
    cost=BACKWARD,
    cite="Fu et al. 2020, arXiv:2008.02312",
)
def xgradcam(
    activations: Float[Tensor, "b c h w"], gradients: Float[Tensor, "b k c h w"]
) -> Float[Tensor, "b k c"]:
    """Channels weighted by their gradients' mean, itself weighted by the activations (eq. 8).

    A channel whose activations add up to zero gets no weight.
    """
    total = activations.sum((-2, -1))[:, None]
    weighted = (gradients * activations[:, None]).sum((-2, -1))
    return where(total != 0, weighted / where(total != 0, total, 1), 0)


@weighting(
    "gradcampp",
    family="gradients",
    cost=BACKWARD,
    cite="Chattopadhay et al. 2018, doi:10.1109/WACV.2018.00097",
)
def gradcampp(
    activations: Float[Tensor, "b c h w"], gradients: Float[Tensor, "b k c h w"]
) -> Float[Tensor, "b k c"]:
    """Positive gradients weighted by 1 / (2 + S g), S the channel's sum (Grad-CAM++, eq. 9-10).

    The paper's score is the exponential of the logit; its first derivative is that exponential
    times the logit's, a positive factor that all channels of a class share, and is left out. The
    paper's g² / (2 g² + S g³) is 1 / (2 + S g), without its underflow. Activations are positive in
    the paper; where they are not, 2 + S g may reach zero and is kept from it.
    """
    total = activations.sum((-2, -1), keepdim=True)[:, None]
    return (_alpha(total * gradients) * gradients.relu()).sum((-2, -1))


@weighting(
    "smoothgradcampp",
    family="gradients",
    cost=Cost(1, passes="samples"),
    cite="Omeiza et al. 2019, arXiv:1908.01224",
)
def smoothgradcampp(
    activations: Float[Tensor, "b c h w"], noisy: Noisy, *, samples: int = 8, spread: float = 0.15
) -> Float[Tensor, "b k c"]:
    """Grad-CAM++ with the derivatives of noisy images, averaged.

    Args:
        activations: of the image without noise.
        noisy: gives activations and gradients of noisy images.
        samples: how many of them.
        spread: the noise's standard deviation, as a share of the image's range.

    Raises:
        UsageError: no sample, or a negative spread.
    """
    first = second = third = torch.zeros(())
    if samples < 1:
        raise UsageError(f"samples is {samples}: use 1 or more")
    for _, gradients in noisy(samples, spread):
        first = first + gradients / samples
        second = second + gradients.square() / samples
        third = third + gradients.pow(3) / samples
    total = activations.sum((-2, -1), keepdim=True)[:, None]
    denominator = 2 * second + total * third
    safe = denominator.abs() > POLE * second
    alpha = where(safe, second / where(safe, denominator, 1), 0)
    return (alpha * first.relu()).sum((-2, -1))


@weighting(
    "shapleycam",
    family="gradients",
    cost=Cost(1, per_class=6),
    cite="Cai 2025, arXiv:2501.06261",
)
def shapleycam(
    activations: Float[Tensor, "b c h w"],
    gradients: Float[Tensor, "b k c h w"],
    curvature: Float[Tensor, "b k c h w"],
) -> Float[Tensor, "b k c"]:
    """Channels weighted by the mean of the gradient less half the Hessian times the activations.

    It is the Shapley value of cells under the score's expansion to second order. The score is the
    logit here.
    """
    return (gradients - curvature / 2).mean((-2, -1))


def _alpha(product: Tensor) -> Tensor:
    """1 / (2 + S g), and 0 next to its pole."""
    denominator = 2 + product
    safe = denominator.abs() > POLE
    return where(safe, 1 / where(safe, denominator, 1), 0)
