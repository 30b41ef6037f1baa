"""Values at points that were not looked at, from those that were: near points have near values.

Kriging, or regression by a Gaussian process (Rasmussen and Williams 2006, ISBN 026218253X, eq.
2.25-2.26), with a Matern kernel of smoothness 3/2 (eq. 4.17) over the points and a linear one over
their features. How far its memory reaches, and the noise, are those under which the points that
were looked at foretell each other best when left out one by one (eq. 5.10-5.12).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

REACHES = (0.25, 0.5, 1.0, 2.0)  # of the root mean square distance of two points
NOISES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # variances, where that of the near part is 1
LINEAR = 10.0  # variance of an offset and of each feature's slope: next to free


@dataclass(frozen=True)
class Guess:
    """Normal distributions of the values at points that were not looked at.

    Attributes:
        mean: of each value (u, k).
        deviation: of each value (u, k).
        root: a factor R of their correlation R R^T, which all k values share (u, u).
    """

    mean: Float[Tensor, "u k"]
    deviation: Float[Tensor, "u k"]
    root: Float[Tensor, "u u"]


@dataclass(frozen=True)
class Part:
    """Some of the points, in units of the distance between two of them, and their features."""

    points: Float[Tensor, "n d"]
    features: Float[Tensor, "n f"]

    def covariance(self, other: "Part", reach: float) -> Float[Tensor, "n m"]:
        """Of values at these points with values at others."""
        stretched = torch.cdist(self.points, other.points) * (math.sqrt(3) / reach)
        near = (1 + stretched) * torch.exp(-stretched)
        return near.add_(LINEAR).addmm_(self.features, other.features.mT, alpha=LINEAR)


def guessed(
    points: Float[Tensor, "m d"],
    features: Float[Tensor, "m f"],
    known: Bool[Tensor, " m"],
    values: Float[Tensor, "n k"],
) -> Guess:
    """Guess the values at the points that are not known.

    Args:
        points: what lies near what.
        features: numbers that the values may follow by a straight line.
        known: which n of the m points were looked at.
        values: at these points.
    """
    tiny = torch.finfo(points.dtype).tiny
    apart = (2 * points.var(0).sum()).sqrt()  # the root mean square of their distances
    placed = (points - points.mean(0)) / apart.clamp_min(tiny)
    standard = (features - features.mean(0)) / features.std(0).clamp_min(tiny)
    seen, unseen = (Part(placed[kept], standard[kept]) for kept in (known, ~known))
    offset = values.mean(0)
    reach, noise, scale = _chosen(seen, values - offset)
    lower = torch.linalg.cholesky(_noisy(seen.covariance(seen, reach), noise))
    across = torch.linalg.solve_triangular(lower, seen.covariance(unseen, reach), upper=False)
    towards = torch.linalg.solve_triangular(lower, values - offset, upper=False)
    left = _noisy(unseen.covariance(unseen, reach), noise).addmm_(across.mT, across, alpha=-1)
    deviation = left.diagonal().sqrt()[:, None]
    root = torch.linalg.cholesky(left) / deviation
    return Guess(offset + across.mT @ towards, deviation * scale, root)


def _chosen(seen: Part, values: Float[Tensor, "n k"]) -> tuple[float, float, Tensor]:
    """Reach, noise and the k values' scales with the likeliest values when each is left out."""
    best: tuple[float, float, float, Tensor] | None = None
    tiny = torch.finfo(values.dtype).tiny
    for reach in REACHES:
        strengths, vectors = torch.linalg.eigh(seen.covariance(seen, reach))
        turned = vectors.mT @ values
        for noise in NOISES:
            inverse = 1 / (strengths.clamp_min(0) + noise)
            precision = vectors.square() @ inverse
            missed = vectors @ (inverse[:, None] * turned) / precision[:, None]
            scale = (missed.square() * precision[:, None]).mean(0).clamp_min(tiny)
            likely = float((precision.log().mean() - scale.log()).sum())
            if best is None or likely > best[0]:
                best = likely, reach, noise, scale.sqrt()
    assert best is not None
    return best[1:]


def _noisy(covariance: Float[Tensor, "n n"], noise: float) -> Float[Tensor, "n n"]:
    covariance.diagonal().add_(noise)
    return covariance
