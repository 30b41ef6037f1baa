"""Concepts: parts of an image that a layer sees as one thing, by non-negative factors."""

import torch
from jaxtyping import Float
from torch import Tensor, einsum, where

from mitate.errors import UsageError
from mitate.explain.methods.table import Cost, method

STRONGEST = -1
SWEEPS = 60


@method(
    "dff",
    family="decomposition",
    cost=Cost(1, per_class=2),
    cite="Collins et al. 2018, arXiv:1806.10206",
    iterates=True,
)
def dff(
    activations: Float[Tensor, "b c h w"],
    gradients: Float[Tensor, "b k c h w"],
    *,
    concepts: int = 4,
    concept: int = STRONGEST,
) -> Float[Tensor, "b k h w"]:
    """Where the concept is that adds most to the class, of the few that make up the activations.

    Deep feature factorisation: activations (cells x channels) as a product of non-negative maps and
    directions. What a concept adds to a class is the sum, over cells, of its part of the
    activations times the gradient. The paper factorises a set of images together; here each has
    concepts of its own. Channels that go below zero are raised to it (grad-cam's way).

    Args:
        activations: what the layer gave.
        gradients: of each class's score.
        concepts: how many; fewer where the grid has fewer cells or channels.
        concept: instead of the one that adds most, this one, the same for every class; 0 is the
            largest.

    Raises:
        UsageError: no concept, or none of that number.
    """
    if concepts < 1 or not STRONGEST <= concept < concepts:
        raise UsageError(f"use 1 concept or more, and concept from -1 to {concepts - 1}")
    raised = activations - activations.amin((-2, -1), keepdim=True).clamp_max(0)
    maps, directions = factorised(raised.flatten(2).mT, concepts)
    planes = maps.mT.reshape(*maps.mT.shape[:2], *activations.shape[-2:])
    if concept != STRONGEST:
        if concept >= planes.shape[1]:
            raise UsageError(f"there is no concept {concept}: the grid gives {planes.shape[1]}")
        return planes[:, concept, None].expand(-1, gradients.shape[1], -1, -1).clone()
    added = einsum("bkchw,bjhw,bjc->bkj", gradients, planes, directions)
    chosen = added.argmax(-1)[..., None, None].expand(-1, -1, *planes.shape[-2:])
    return planes.gather(1, chosen)


def factorised(
    values: Float[Tensor, "b n c"], rank: int
) -> tuple[Float[Tensor, "b n r"], Float[Tensor, "b r c"]]:
    """Non-negative factors whose product is nearest to non-negative values, the largest first.

    Hierarchical alternating least squares (Cichocki and Phan 2009, doi:10.1587/transfun.E92.A.708)
    from a start without chance: the positive parts of singular vectors, and the mean where they
    have none (Boutsidis and Gallopoulos 2008, doi:10.1016/j.patcog.2007.09.010). Directions have
    length 1; a factor that is not needed is zero.
    """
    scale = values.amax((1, 2), keepdim=True)
    scale = where(scale > 0, scale, 1)
    own = values / scale
    left, right = _start(own, min(rank, *values.shape[1:]))
    for _ in range(SWEEPS):
        left = _improved(left, own @ right.mT, right @ right.mT)
        right = _improved(right.mT, own.mT @ left, left.mT @ left).mT
    lengths = right.norm(dim=-1)
    directions = _unit(right)
    maps = left * lengths[:, None] * scale
    order = maps.norm(dim=1).argsort(dim=-1, descending=True, stable=True)[:, None]
    return (
        maps.gather(2, order.expand_as(maps)),
        directions.gather(1, order.mT.expand_as(directions)),
    )


def _improved(
    factor: Float[Tensor, "b n r"], towards: Float[Tensor, "b n r"], gram: Float[Tensor, "b r r"]
) -> Float[Tensor, "b n r"]:
    """Each column in turn as good as it can be beside the others."""
    own = gram.diagonal(dim1=-2, dim2=-1)
    inverse = where(own > 0, 1 / where(own > 0, own, 1), 0)[:, None]
    better = where(own[:, None] > 0, factor, 0)
    for j in range(gram.shape[-1]):
        missing = towards[..., j] - (better @ gram[..., j, None])[..., 0]
        better[..., j] = (better[..., j] + inverse[..., j] * missing).relu()
    return better


def _start(
    values: Float[Tensor, "b n c"], rank: int
) -> tuple[Float[Tensor, "b n r"], Float[Tensor, "b r c"]]:
    """The positive parts of singular pairs: of each the pair of halves that weighs more."""
    left, strengths, right = torch.linalg.svd(torch.nan_to_num(values), full_matrices=False)
    left, right = left[..., :rank].mT, right[:, :rank]
    plus = left.relu().norm(dim=-1) * right.relu().norm(dim=-1)
    minus = (-left).relu().norm(dim=-1) * (-right).relu().norm(dim=-1)
    sign = where(plus >= minus, 1, -1)[..., None]
    size = (strengths[:, :rank] * torch.maximum(plus, minus)).sqrt()[..., None]
    mean = values.mean((1, 2), keepdim=True)
    u, v = (size * _unit((sign * half).relu()) for half in (left, right))
    return where(u > 0, u, mean).mT, where(v > 0, v, mean)


def _unit(vectors: Float[Tensor, "*n m"]) -> Float[Tensor, "*n m"]:
    """Vectors of length 1; zero stays."""
    lengths = vectors.norm(dim=-1, keepdim=True)
    return vectors / where(lengths > 0, lengths, 1)
