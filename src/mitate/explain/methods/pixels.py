"""Methods whose maps are of the input's pixels, by gradients that go all the way back to it.

Colours become one number by a rule that each method states. They need no layer.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.biases import FullGradient
from mitate.explain.methods.perturbed import FILLS, blurred
from mitate.explain.methods.table import Cost, method, summed
from mitate.tensors import resize_maps, with_noise

Slopes = Callable[[Tensor], Tensor]
ONE_PASS = Cost(2, per_class=2)


@method(
    "gradient",
    family="pixels",
    cost=ONE_PASS,
    cite="Simonyan et al. 2013, arXiv:1312.6034",
)
def gradient(
    images: Float[Tensor, "b channels H W"], slopes: Slopes, *, signed: bool = False
) -> Float[Tensor, "b k H W"]:
    """How much a pixel's change changes the score: the gradient of the colour where it is largest.

    Its size (section 3.1); with ``signed`` that colour's own gradient.
    """
    return _strongest(slopes(images), signed)


@method(
    "smoothgrad",
    family="pixels",
    cost=Cost(1, passes="samples"),
    cite="Smilkov et al. 2017, arXiv:1706.03825",
)
def smoothgrad(
    images: Float[Tensor, "b channels H W"],
    slopes: Slopes,
    generators: Sequence[torch.Generator],
    *,
    samples: int = 16,
    spread: float = 0.15,
    signed: bool = False,
) -> Float[Tensor, "b k H W"]:
    """The gradients of noisy images, averaged; then as ``gradient``.

    Args:
        images: without noise.
        slopes: gives gradients of the pixels.
        generators: of the noise.
        samples: how many noisy images.
        spread: the noise's standard deviation, as a share of the image's range.
        signed: keep the sign of the strongest colour's gradient.

    Raises:
        UsageError: no sample.
    """
    if samples < 1:
        raise UsageError(f"samples is {samples}: use 1 or more")
    drawn = (slopes(with_noise(images, spread, generators)) / samples for _ in range(samples))
    return _strongest(_total(drawn), signed)


@method(
    "inputxgradient",
    family="pixels",
    cost=ONE_PASS,
    cite="Shrikumar et al. 2016, arXiv:1605.01713",
)
def inputxgradient(
    images: Float[Tensor, "b channels H W"], slopes: Slopes, *, signed: bool = False
) -> Float[Tensor, "b k H W"]:
    """The gradient times the preprocessed pixel, colours added up, positive part.

    It is HiResCAM at the input. What is grey after preprocessing (zero) gets nothing.
    """
    return summed(images, slopes(images), signed=signed)


@method(
    "integratedgradients",
    family="pixels",
    cost=Cost(1, passes="steps"),
    cite="Sundararajan et al. 2017, arXiv:1703.01365",
)
def integratedgradients(
    images: Float[Tensor, "b channels H W"],
    slopes: Slopes,
    *,
    steps: int = 32,
    baseline: str = "grey",
    signed: bool = False,
) -> Float[Tensor, "b k H W"]:
    """Gradients along the way from a baseline, times the way; colours added up, positive part.

    With ``signed`` the map adds up to the score less that of the baseline (completeness), as far as
    the steps reach: they are those of Gauss and Legendre, the same as captum's.

    Args:
        images: the end of the way.
        slopes: gives gradients of the pixels.
        steps: on the way; each costs a forward, and a backward a class.
        baseline: ``grey``, the zero of the preprocessed image, which is the mean colour where it
            was normalised; or ``blur``.
        signed: keep what speaks against the class.

    Raises:
        UsageError: no step, or no such baseline.
    """
    if steps < 1 or baseline not in FILLS:
        raise UsageError(f"use 1 step or more, and baseline {' or '.join(FILLS)}")
    start = blurred(images) if baseline == "blur" else torch.zeros_like(images)
    way = images - start
    places, weights = gauss_legendre(steps)
    passed = zip(places.tolist(), weights.tolist(), strict=True)
    mean = _total(weight * slopes(start + place * way) for place, weight in passed)
    return summed(way, mean, signed=signed)


@method(
    "guidedgradcam",
    family="pixels",
    cost=Cost(2, per_class=4),
    cite="Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74 (section 3.1, guided Grad-CAM)",
)
def guidedgradcam(
    activations: Float[Tensor, "b c h w"],
    mean_gradients: Float[Tensor, "b k c"],
    guided: Float[Tensor, "b k channels H W"],
    *,
    signed: bool = False,
) -> Float[Tensor, "b k H W"]:
    """Guided gradients of the pixels times Grad-CAM's map, colours added up, positive part.

    The guided gradients of Springenberg et al. 2015 change little when weights are made random
    (Adebayo et al. 2018, arXiv:1810.03292): fine lines in this map are the image's edges.
    """
    coarse = summed(activations, mean_gradients)
    fine = guided.sum(2) * resize_maps(coarse, guided.shape[-2:])
    return fine if signed else fine.relu()


@method(
    "fullgrad",
    family="gradients",
    cost=Cost(3, per_class=2),
    cite="Srinivas and Fleuret 2019, arXiv:1905.00780",
)
def fullgrad(
    images: Float[Tensor, "b channels H W"],
    fullgradients: Callable[[], Iterator[FullGradient]],
    *,
    signed: bool = False,
) -> Float[Tensor, "b k H W"]:
    """The input and every bias in the network, each times its gradient, on the pixels (eq. 6).

    Absolute values, scaled to [0, 1] within each operation so that none drowns the others, enlarged
    bilinearly and added up. That scaling (the paper's psi) gives up the sum; ``signed`` leaves it
    out: the map then adds up to the score, but for biases that have no place, such as the head's.

    Args:
        images: the preprocessed images.
        fullgradients: a class at a time, the score taken apart.
        signed: keep signs and sizes.
    """
    size = images.shape[-2:]
    summed_up = partial(_spread, pixels=size.numel()) if signed else _scaled
    return torch.stack([_laid(map(summed_up, one.spatial), size) for one in fullgradients()], 1)


def gauss_legendre(steps: int) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
    """Places in (0, 1) and weights that integrate polynomials of degree 2 n - 1 exactly.

    From the eigenvectors of the three-term recurrence (Golub and Welsch 1969,
    doi:10.1090/S0025-5718-69-99647-1).
    """
    n = torch.arange(1, steps, dtype=torch.float64)
    beside = n / (4 * n.square() - 1).sqrt()
    places, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return (places + 1) / 2, vectors[0].square()


def _strongest(slopes: Float[Tensor, "b k channels H W"], signed: bool) -> Tensor:
    """The gradient of the colour where it is largest: its size, or itself."""
    sizes, colours = slopes.abs().max(2, keepdim=True)
    return (slopes.gather(2, colours) if signed else sizes)[:, :, 0]


def _total(parts: Iterator[Tensor]) -> Tensor:
    """The sum, one part in memory at a time."""
    total = next(parts)
    for part in parts:
        total = total + part
    return total


def _scaled(term: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """The paper's psi, added up over channels; scaled after that, which is the same and cheaper."""
    sizes = term.abs()
    low, high = sizes.amin((1, 2, 3))[:, None, None], sizes.amax((1, 2, 3))[:, None, None]
    whole = sizes.sum(1) - len(sizes[0]) * low
    return torch.where(high > low, whole / torch.where(high > low, high - low, 1), 0)


def _spread(term: Float[Tensor, "b c h w"], pixels: int) -> Float[Tensor, "b h w"]:
    """Added up over channels, and each cell's share spread over its pixels."""
    return term.sum(1) * (term[0, 0].numel() / pixels)


def _laid(terms: Iterator[Float[Tensor, "b _h _w"]], size: Sequence[int]) -> Float[Tensor, "b H W"]:
    """Added up, those of each grid before they are enlarged."""
    grids: dict[torch.Size, Tensor] = {}
    for term in terms:
        grids[term.shape] = grids[term.shape] + term if term.shape in grids else term
    return _total(resize_maps(term[:, None], size)[:, 0] for term in grids.values())
