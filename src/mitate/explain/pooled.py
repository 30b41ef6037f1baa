"""A layer's mean gradient over its places, without the gradient at each.

Grad-CAM asks for the mean alone. Where a layer norm and a linear layer take what a layer gives, as
behind the depthwise convolution of a ConvNeXt's block, it follows from the linear layer's slopes by
sums over places, and the linear layer need not be multiplied back for every place.

With x what a place gave, m and s its mean and inverse deviation over c channels, y = (x - m) s, a
linear layer h = W (g y + b) + d and its slope q, the gradient of the place is, by layer norm's
derivative (Ba et al. 2016, arXiv:1607.06450),

    s (u - mean(u) - y mean(u y)),  u = g W'q.

Both means are products of q, with W g and with W (g y) = h - W b - d, which is known; and the sum
over places of s u is g W' times that of s q.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mitate.explain.grid import Grid
from mitate.fixed import is_fixed


@dataclass(frozen=True)
class Behind:
    """The layer norm and the linear layer that alone take what a layer gave, by their nodes."""

    norm: Any
    linear: Any

    @property
    def edge(self) -> GradientEdge:
        """Where the linear layer's slope is."""
        return GradientEdge(self.linear, 0)

    @cached_property
    @torch.no_grad()
    def scaled_output(self) -> Float[Tensor, "b places n"]:
        """W (g y): what the linear layer gave for the scaled input alone, of every score."""
        weight, shift, output = self.linear.saved_tensors
        offset = self.norm._saved_bias
        constant = weight.new_zeros(len(weight)) if shift is None else shift
        constant = constant if offset is None else torch.addmv(constant, weight, offset)
        scaled: Tensor = (output - constant).reshape(len(output), -1, len(weight))
        return scaled

    @torch.no_grad()
    def mean(self, slope: Float[Tensor, "b *places n"] | None) -> Float[Tensor, "b c"]:
        """The layer's mean gradient by the linear layer's slope; zero where there is none."""
        weight, *_ = self.linear.saved_tensors
        norm = self.norm
        given, scale = norm._saved_input, norm._saved_weight
        (images, *_, channels), size = given.shape, len(weight)
        if slope is None:
            return torch.zeros(images, channels, dtype=weight.dtype, device=weight.device)
        slope = slope.reshape(images, -1, size)
        middle, spread = (
            one.reshape(images, 1, -1) for one in (norm._saved_result1, norm._saved_result2)
        )
        scaled = weight if scale is None else weight * scale
        along = torch.linalg.vecdot(slope, self.scaled_output)  # c mean(u y)
        tilted = spread.square() * along[:, None]
        pooled = torch.bmm(spread, slope)[:, 0]
        even = pooled @ scaled.sum(1, keepdim=True) - torch.bmm(tilted, middle.mT)[:, 0]
        tilted = torch.bmm(tilted, given.reshape(images, -1, channels))[:, 0]
        mean: Tensor = (pooled @ scaled - (even + tilted) / channels) / middle.shape[-1]
        return mean


def behind(scores: Tensor, kept: Tensor, grid: Grid) -> Behind | None:
    """What takes a kept activation on the way to scores, if it is a norm and a linear layer alone.

    None too where the grid leaves out tokens that they take, or the linear layer is recorded as it
    is written.
    """
    if scores.grad_fn is None or not kept.is_leaf or grid.prefix:
        return None
    takers: dict[Any, list[Any]] = {}
    node = None
    for taker, taken in _edges(scores.grad_fn):
        takers.setdefault(taken, []).append(taker)
        if getattr(taken, "variable", None) is kept:
            node = taken
    norm, channels_last = None, grid.layout != "channels first"
    while node is not None and len(takers.get(node, ())) == 1:
        (node,) = takers[node]
        name = type(node).__name__
        if norm is not None:
            return Behind(norm, node) if is_fixed(node) else None
        if name == "PermuteBackward0" and not channels_last and _puts_last(node._saved_dims):
            channels_last = True
        elif name == "NativeLayerNormBackward0" and channels_last and _is_of(node, grid.channels):
            norm = node
        elif name != "CloneBackward0":
            return None
    return None


def _edges(root: Any) -> Iterator[tuple[Any, Any]]:
    """Every pair of nodes of which the first takes what the second gave."""
    waiting, met = [root], {root}
    while waiting:
        taker = waiting.pop()
        for taken, _ in taker.next_functions:
            if taken is not None:
                yield taker, taken
                if taken not in met:
                    met.add(taken)
                    waiting.append(taken)


def _puts_last(order: tuple[int, ...]) -> bool:
    """Whether axes are permuted so that channels come last, and the rest stays in order."""
    axes = [axis % len(order) for axis in order]
    return axes == [0, *range(2, len(order)), 1]


def _is_of(norm: Any, channels: int) -> bool:
    """Whether a layer norm is over the channels, which come last."""
    return tuple(norm._saved_normalized_shape) == (channels,)
