"""Areas under curves of a class's probability over the share of pixels that are altered."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.tensors import exact

# Halves of a fifth down to a 320th, where small things are decided, and tenths above it.
FRACTIONS = (
    0.0, 0.003125, 0.00625, 0.0125, 0.025, 0.05, 0.1, 0.15, 0.2,
    0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0,
)  # fmt: skip
IMPUTED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)  # Rong et al. 2022
EARLY = 0.2
CURVES: dict[str, tuple[float, ...]] = {
    "deletion": FRACTIONS,
    "insertion": FRACTIONS,
    "road_most": IMPUTED,
    "road_least": IMPUTED,
}


def mean_height(curve: Float[Tensor, "b steps"], places: Sequence[float]) -> Float[Tensor, " b"]:
    """The mean of a curve over its places, by trapezoids.

    It depends on where the steps lie and not on how many there are.
    """
    y = exact(curve)
    x = torch.tensor(places, dtype=torch.float64, device=y.device)
    return torch.trapezoid(y, x, dim=1) / (x[-1] - x[0])


def over_fraction(curve: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Mean height over the fraction, both ends included."""
    return mean_height(curve, FRACTIONS)


def over_logarithm(curve: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Mean height over the logarithm of the fraction, from the least one over 0 to 1."""
    places = torch.tensor(FRACTIONS[1:], dtype=torch.float64).log().tolist()
    return mean_height(curve[:, 1:], places)


def early(curve: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Mean height over the first fifth."""
    steps = FRACTIONS.index(EARLY) + 1
    return mean_height(curve[:, :steps], FRACTIONS[:steps])
