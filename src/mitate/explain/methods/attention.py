"""Methods that read a transformer's attention: what tokens take from what tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.attention import Attention
from mitate.explain.methods.table import Cost, method

EVERY_HEAD = -1
ALL = 0
READ = Cost(3)  # the forward, and a backward that tells which tokens the head reads


@method(
    "attention",
    family="attention",
    cost=READ,
    cite="Caron et al. 2021, arXiv:2104.14294 (the class token's attention)",
)
def attention(
    attention: Attention,
    classes: Int[Tensor, "b k"],
    *,
    block: int = -1,
    head: int = EVERY_HEAD,
    fuse: str = "mean",
) -> Float[Tensor, "b k h w"]:
    """What the tokens that the head reads attend to in one block: the same for every class.

    These are the class token, or all patches where the head reads their mean. Attention within
    windows (Swin) is put back on the grid; each window has the same total, so that its cells
    compare with each other and not with those of another.

    Args:
        attention: probabilities of the blocks over the layer's grid.
        classes: of which each gets this map.
        block: one of these blocks; from the end where it is negative.
        head: of attention; -1 fuses all.
        fuse: how heads become one: ``mean``, ``max`` or ``min``.

    Raises:
        UsageError: no such block, head or fusion.
    """
    blocks = attention.probabilities
    if not -len(blocks) <= block < len(blocks):
        raise UsageError(f"there is no block {block}: {len(blocks)} attend over this grid")
    heads = blocks[block]
    if not EVERY_HEAD <= head < heads.shape[1]:
        raise UsageError(f"there is no head {head}: the block has {heads.shape[1]}")
    one = _fused(heads, fuse) if head == EVERY_HEAD else heads[:, head]
    return _of_every(attention.seen(one), classes)


@method(
    "rollout",
    family="attention",
    cost=READ,
    cite="Abnar and Zuidema 2020, doi:10.18653/v1/2020.acl-main.385",
)
def rollout(
    attention: Attention,
    classes: Int[Tensor, "b k"],
    *,
    fuse: str = "mean",
    discard: float = 0.0,
) -> Float[Tensor, "b k h w"]:
    """Attention of all blocks over one grid multiplied up, half of each passed on (eq. 1).

    The same for every class. Rows are brought to a sum of 1 before they are multiplied.

    Args:
        attention: probabilities of the blocks.
        classes: of which each gets this map.
        fuse: how heads become one: ``mean``, as in the paper, ``max`` or ``min``.
        discard: this share of each block's lowest entries becomes zero first (vit-explain's).

    Raises:
        UsageError: no such fusion, or a share outside [0, 1).
    """
    if not 0 <= discard < 1:
        raise UsageError(f"discard is {discard}: use a share from 0 to under 1")
    fused = [_discarded(_fused(heads, fuse), discard) for heads in attention.probabilities]
    return _of_every(attention.seen(_rolled(fused)), classes)


@method(
    "gradrollout",
    family="attention",
    cost=Cost(3, per_class=2),
    cite="Chefer et al. 2021, doi:10.1109/ICCV48922.2021.00045",
)
def gradrollout(attention: Attention) -> Float[Tensor, "b k h w"]:
    """Relevance that grows by the positive part of attention times its gradient (eq. 5-6).

    The paper's generic method for self-attention. Where the head reads the patches, the identity
    that relevance begins with is left out: it says nothing of any place.
    """
    slopes = attention.slopes()
    tokens = slopes[0].shape[-1]
    start = torch.eye(tokens, device=slopes[0].device, dtype=slopes[0].dtype)
    relevance = start.expand(*slopes[0].shape[:2], tokens, tokens)
    for probabilities, gradients in zip(attention.probabilities, slopes, strict=True):
        relevance = relevance + (gradients * probabilities[:, None]).relu().mean(2) @ relevance
    return attention.seen(relevance - start if attention.reads_patches else relevance)


@method(
    "legrad",
    family="attention",
    cost=Cost(4, per_class=2),
    cite="Bousselham et al. 2024, arXiv:2404.03214",
)
def legrad(
    attention: Attention, *, pooled: bool = True, blocks: int = ALL
) -> Float[Tensor, "b k h w"]:
    """The positive gradient of each block's own score at its attention, added up over blocks.

    A block's own score is what the network would say if that block were the last. Attention itself
    is not multiplied in. Means over heads and over all queries, of each key.

    Args:
        attention: of the blocks over the layer's grid.
        pooled: a block's score is of the mean of its tokens, as in the authors' code and in
            torchcam; otherwise of what the head reads, such as the class token.
        blocks: only the last so many; 0 takes all, as in the paper.

    Raises:
        UsageError: a negative number of blocks.
    """
    if blocks < 0:
        raise UsageError(f"blocks is {blocks}: use 0 for all, or how many of the last")
    own = attention.own_slopes(pooled)[-blocks:]
    return attention.folded(torch.stack([slopes.relu().mean((2, 3)) for slopes in own]).sum(0))


def _fused(heads: Float[Tensor, "b heads n n"], how: str) -> Float[Tensor, "b n n"]:
    """One matrix of all heads."""
    match how:
        case "mean":
            return heads.mean(1)
        case "max":
            return heads.amax(1)
        case "min":
            return heads.amin(1)
    raise UsageError(f"fuse is {how!r}: use mean, max or min")


def _discarded(matrix: Float[Tensor, "b n n"], share: float) -> Float[Tensor, "b n n"]:
    """Zero for the lowest share of all entries, rounded down; the very first is kept."""
    lost = int(matrix[0].numel() * share)
    order = matrix.flatten(1).sort(dim=1, stable=True).indices[:, :lost]
    kept = matrix.flatten(1).scatter(1, order, 0)
    kept[:, 0] = matrix[:, 0, 0]
    return kept.reshape(matrix.shape)


def _rolled(fused: Sequence[Float[Tensor, "b n n"]]) -> Float[Tensor, "b n n"]:
    """The blocks' matrices multiplied up, each with half of the identity."""
    identity = torch.eye(fused[0].shape[-1], device=fused[0].device, dtype=fused[0].dtype)
    rolled = identity.expand_as(fused[0])
    for matrix in fused:
        passed = (matrix + identity) / 2
        rolled = passed / passed.sum(-1, keepdim=True) @ rolled
    return rolled


def _of_every(maps: Float[Tensor, "b h w"], classes: Int[Tensor, "b k"]) -> Tensor:
    """The same map for every class."""
    return maps[:, None].expand(-1, classes.shape[1], -1, -1).clone()
