"""How alike two maps, or two rows of numbers, are."""

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.tensors import exact

LEAST = 1e-12  # of the squared numbers, what rounding leaves of a constant row


def pearson(first: Float[Tensor, "b *n"], second: Float[Tensor, "b *n"]) -> Float[Tensor, " b"]:
    """Correlation of each row with its counterpart; NaN where one of the two is constant."""
    one, two = (_centred(exact(row).flatten(1)) for row in (first, second))
    product = (one * two).sum(1)
    size = (one.square().sum(1) * two.square().sum(1)).sqrt()
    return torch.where(size > 0, (product / size).clamp(-1, 1), torch.nan)


def spearman(first: Float[Tensor, "b *n"], second: Float[Tensor, "b *n"]) -> Float[Tensor, " b"]:
    """Rank correlation of each row with its counterpart; equal values share their mean rank."""
    return pearson(mean_ranks(first.flatten(1)), mean_ranks(second.flatten(1)))


def mean_ranks(rows: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """The rank of each value in its row from 0, equal values sharing the mean of theirs."""
    ordered = rows.contiguous().sort(1).values
    below = torch.searchsorted(ordered, rows.contiguous())
    upto = torch.searchsorted(ordered, rows.contiguous(), right=True)
    return exact(below + upto - 1) / 2


def _centred(rows: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    centred = rows - rows.mean(1, keepdim=True)
    varies = centred.square().sum(1) > LEAST * rows.square().sum(1)
    return torch.where(varies[:, None], centred, 0)
