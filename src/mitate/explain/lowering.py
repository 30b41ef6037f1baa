"""Operations of backward passes in plain ones, so that a graph of maps can be exported and fused.

What is left is core ATen without any ``*_backward``: a convolution's gradient by its input is a
transposed convolution, a pooling's is one too, a product with constant matrices, or a scatter.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Decomposition = Callable[..., Any]


@cache
def decompositions() -> dict[Any, Decomposition]:
    """The table for ``make_fx``: PyTorch's own into core ATen, and those below."""
    from torch._decomp import core_aten_decompositions

    aten = torch.ops.aten
    return {
        **core_aten_decompositions(),
        aten.convolution_backward.default: convolution_backward,
        aten.native_batch_norm.default: batch_norm,
        aten.max_pool2d_with_indices_backward.default: max_pool_backward,
        aten.max_pool3d_with_indices_backward.default: max_pool_backward,
        aten.avg_pool2d_backward.default: average_pool_backward,
        aten.avg_pool3d_backward.default: average_pool_backward,
        aten._adaptive_avg_pool2d_backward.default: adaptive_pool_backward,
        aten._adaptive_avg_pool3d_backward.default: adaptive_pool_backward,
        aten.slice_backward.default: slice_backward,
    }


class PlainPooling(TorchFunctionMode):
    """Pools everything by a plain mean, while it is entered.

    PyTorch's own changes strides in place where channels lie last, which no graph can be made of.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of `F.adaptive_avg_pool2d` to one cell, and of nothing else."""
        if func is F.adaptive_avg_pool2d:
            return _pooled(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _pooled(input: Tensor, output_size: Any) -> Tensor:
    if output_size in (1, (1, 1), [1, 1]):
        return input.mean((-2, -1), keepdim=True)
    return F.adaptive_avg_pool2d(input, output_size)


def convolution_backward(
    gradient: Tensor,
    input: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> Any:
    """A convolution's gradient by its input, as the convolution the other way.

    The gradients by weight and bias, which no map needs, are left to PyTorch.
    """
    if output_mask[1] or output_mask[2]:
        return NotImplemented
    if transposed:
        back = torch.convolution(
            gradient, weight, None, stride, padding, dilation, False, [0] * len(stride), groups
        )
        return back, None, None
    kernel = weight.shape[2:]
    if groups == 1 and math.prod((*kernel, *stride)) == 1 and not any(padding):
        none = [0] * len(stride)  # the products of rows alone: no need to transpose anything else
        turned = weight.transpose(0, 1)
        back = torch.convolution(
            gradient, turned, None, stride, padding, dilation, False, none, groups
        )
        return back, None, None
    reached = [
        (size - 1) * step - 2 * pad + gap * (side - 1) + 1
        for size, step, pad, gap, side in zip(
            gradient.shape[2:], stride, padding, dilation, kernel, strict=True
        )
    ]
    missed = [whole - part for whole, part in zip(input.shape[2:], reached, strict=True)]
    back = torch.convolution(
        gradient, weight, None, stride, padding, dilation, True, missed, groups
    )
    return back, None, None


def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    """Batch norm by statistics that stay as they are, or by the batch's own where none are kept."""
    aten = torch.ops.aten
    if not training:
        return aten._native_batch_norm_legit_no_training(
            input, weight, bias, running_mean, running_var, momentum, eps
        )
    if running_mean is None:
        return aten._native_batch_norm_legit.no_stats(input, weight, bias, True, momentum, eps)
    return NotImplemented


def max_pool_backward(
    gradient: Tensor,
    input: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """Each gradient added to the place that its maximum came from."""
    axes = -len(kernel)
    zeros = torch.zeros_like(input).flatten(axes)
    return zeros.scatter_add(-1, indices.flatten(axes), gradient.flatten(axes)).view(input.shape)


def average_pool_backward(
    gradient: Tensor,
    input: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Each gradient spread over its window: a transposed convolution by ones, channel by channel.

    What the windows add up outside the input is cut off, and of a window larger than the input
    (which some networks pool all with) no more is made than that.
    """
    axes = len(gradient.shape) - 2
    kernel, padding = _each(kernel, axes), _each(padding, axes)
    stride = _each(stride, axes) if stride else kernel
    sides, sizes = input.shape[-axes:], gradient.shape[-axes:]
    spread = gradient / _divisors(
        gradient, sides, kernel, stride, padding, count_include_pad, divisor_override
    )
    channels, none = gradient.shape[-axes - 1], [0] * axes
    wanted = [side + pad for side, pad in zip(sides, padding, strict=True)]
    kernel = [min(pair) for pair in zip(kernel, wanted, strict=True)]
    reached = [(n - 1) * step + side for n, step, side in zip(sizes, stride, kernel, strict=True)]
    ones = torch.ones(channels, 1, *kernel, dtype=gradient.dtype, device=gradient.device)
    back = torch.convolution(spread, ones, None, stride, none, [1] * axes, True, none, channels)
    for axis, (there, whole, pad) in enumerate(zip(reached, wanted, padding, strict=True), 2):
        back = back.narrow(axis, pad, min(there, whole) - pad)
    lacking = [max(0, whole - there) for there, whole in zip(reached, wanted, strict=True)]
    if not any(lacking):
        return back
    return torch.constant_pad_nd(back, [n for side in reversed(lacking) for n in (0, side)], 0)


def slice_backward(
    gradient: Tensor, sizes: Sequence[int], dim: int, start: int, end: int, step: int
) -> Tensor:
    """Each gradient put back where it was taken; a slice without an end goes to the last place."""
    zeros = gradient.new_zeros(sizes)
    return torch.slice_scatter(zeros, gradient, dim, start, min(end, sizes[dim]), step)


def adaptive_pool_backward(gradient: Tensor, input: Tensor) -> Tensor:
    """Each gradient spread over its cell, an axis at a time, by a matrix of shares."""
    axes = len(gradient.shape) - 2
    back = gradient
    for axis in range(-axes, 0):
        shares = _shares(input.shape[axis], gradient.shape[axis], gradient)
        back = (back.movedim(axis, -1) @ shares).movedim(-1, axis)
    return back


def _shares(side: int, cells: int, like: Tensor) -> Tensor:
    """What each of ``side`` places gives to each of ``cells`` means: (cells, side)."""
    places = torch.arange(side, device=like.device)
    numbers = torch.arange(cells, device=like.device)[:, None]
    starts = torch.div(numbers * side, cells, rounding_mode="floor")
    ends = torch.div((numbers + 1) * side + cells - 1, cells, rounding_mode="floor")
    inside = (places >= starts) & (places < ends)
    return inside.to(like.dtype) / (ends - starts).to(like.dtype)


def _divisors(
    like: Tensor,
    sides: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    count_include_pad: bool,
    override: int | None,
) -> Tensor | int:
    """How many places each window's mean is of; one number where all are alike."""
    if override:
        return override
    counts = []
    for size, side, window, step, pad in zip(
        like.shape[-len(kernel) :], sides, kernel, stride, padding, strict=True
    ):
        starts = [place * step - pad for place in range(size)]
        low, high = (-pad, side + pad) if count_include_pad else (0, side)
        counts.append([min(start + window, high) - max(start, low) for start in starts])
    if all(len(set(along)) == 1 for along in counts):
        return math.prod(along[0] for along in counts)
    every = [math.prod(found) for found in product(*counts)]
    whole = torch.tensor(every, dtype=like.dtype, device=like.device)
    return whole.reshape([len(along) for along in counts])


def _each(numbers: Sequence[int], axes: int) -> list[int]:
    """One number an axis."""
    return list(numbers) if len(numbers) == axes else [numbers[0]] * axes
