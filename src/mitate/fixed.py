"""Layers of fixed weights, recorded for the gradients of what they are given, of several scores.

Backward, behind pooling, the slope is the same at every place of an image, and behind a class token
it is zero at every other: ``fixed_linear`` multiplies what differs alone. The derivative of a GELU
is that of every score: ``fixed_gelu`` computes it once.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mitate.linears import is_large, linear, product


def fixed_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer whose weights no gradient is asked of, with what is alike multiplied once.

    Recorded for the input alone, and twice if need be.
    """
    recorded = torch.is_grad_enabled() and input.requires_grad
    made = any(one is not None and one.grad_fn is not None for one in (weight, bias))
    if not recorded or made or not is_large(input, weight):
        return linear(input, weight, bias)
    given = (input, weight.detach(), None if bias is None else bias.detach())
    result: Tensor = _Linear.apply(*given)  # type: ignore[no-untyped-call]
    return result


def fixed_gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """A GELU whose derivative is computed once for all scores; twice recorded if need be."""
    if not (torch.is_grad_enabled() and input.requires_grad):
        return F.gelu(input, approximate=approximate)
    result: Tensor = _Gelu.apply(input, approximate)  # type: ignore[no-untyped-call]
    return result


def is_fixed(node: Any) -> bool:
    """Whether a node of the graph is a ``fixed_linear``; it has saved weight, bias and result."""
    return getattr(type(node), "_forward_cls", None) is _Linear


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        result = linear(input, weight, bias)
        ctx.save_for_backward(weight, bias, result)
        return result

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (weight, *_), (slope,) = ctx.saved_tensors, slopes
        if torch.is_grad_enabled() or slope.ndim < 3:  # differentiated again, or of no places
            return linear(slope, weight.t()), None, None
        result = _by_what_differs(slope.reshape(len(slope), -1, len(weight)), weight)
        return result.reshape(*slope.shape[:-1], -1), None, None


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, approximate: str) -> Tensor:
        ctx.save_for_backward(input)
        ctx.approximate, ctx.derivative = approximate, None
        return F.gelu(input, approximate=approximate)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (input,), (slope,) = ctx.saved_tensors, slopes
        back = torch.ops.aten.gelu_backward
        if torch.is_grad_enabled():  # differentiated again
            return back(slope, input, approximate=ctx.approximate), None
        if ctx.derivative is None:
            even = torch.ones_like(input)
            ctx.derivative = back(even, input, approximate=ctx.approximate)
        return slope * ctx.derivative, None


def _by_what_differs(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows (images, places, n) times a weight (n, m); places that are alike, or zero, once."""
    first, last = rows[:, 0], rows[:, -1]
    if torch.equal(first, last) and torch.equal(rows, first[:, None].expand_as(rows)):
        return product(first, weight)[:, None].expand(-1, rows.shape[1], -1)
    flat = rows.flatten(0, 1)
    if not last.any():
        told = flat.any(dim=1)
        if 2 * int(told.sum()) < len(flat):
            result = rows.new_zeros(len(flat), weight.shape[1])
            result[told] = product(flat[told], weight)
            return result
    return product(flat, weight)
