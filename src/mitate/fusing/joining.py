"""What may be put off, and what may join it: by function of PyTorch, with the same signatures."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mitate.fusing.pending import (
    Activation,
    Geometry,
    Pending,
    Recipe,
    computed,
    versions_of,
    was_alone,
)

FEWEST_OUTPUTS = 200_000  # numbers: one more pass over fewer costs less than to put it off


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Pending | None:
    if was_alone(weight):
        return None
    input = computed(input)
    if isinstance(padding, str) or not _usable(input, weight, bias) or input.ndim != 4:
        return None
    if weight.ndim != 4 or not input.is_contiguous(memory_format=torch.channels_last):
        return None
    shape = Geometry(_pair(padding), _pair(stride), _pair(dilation), groups)
    sides = [
        (side + 2 * pad - gap * (kernel - 1) - 1) // step + 1
        for side, kernel, pad, gap, step in zip(
            input.shape[2:],
            weight.shape[2:],
            shape.padding,
            shape.dilation,
            shape.stride,
            strict=True,
        )
    ]
    fits = input.shape[1] == weight.shape[1] * groups and len(weight) % groups == 0
    if not fits or min(sides) < 1:
        return None
    recipe = Recipe(weight, input, weight, bias, shape, versions=versions_of(input))
    return _put_off(recipe, (len(input), len(weight), *sides))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Pending | None:
    if was_alone(weight):
        return None
    input = computed(input)
    if not _usable(input, weight, bias) or input.ndim < 2 or weight.ndim != 2:
        return None
    if input.shape[-1] != weight.shape[1] or not input.is_contiguous():
        return None
    recipe = Recipe(weight, input, weight, bias, versions=versions_of(input))
    return _put_off(recipe, (*input.shape[:-1], len(weight)))


def _put_off(recipe: Recipe, size: tuple[int, ...]) -> Pending | None:
    """What will be computed; None where it is small, or its bias is of another size."""
    fits = recipe.bias is None or recipe.bias.shape == recipe.weight.shape[:1]
    return Pending.of(recipe, size) if fits and prod(size) >= FEWEST_OUTPUTS else None


def _normalised(
    input: Any,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Pending | None:
    """A convolution with the batch norm behind it, as one with other weights."""
    recipe = _unfinished(input)
    if recipe is None or recipe.geometry is None or recipe.added is not None or training:
        return None
    if mean is None or variance is None or not _usable(mean, variance, weight, bias):
        return None
    scale = torch.rsqrt(variance + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean if recipe.bias is None else recipe.bias - mean
    shift = shift * scale if bias is None else torch.addcmul(bias, shift, scale)
    return _joined(input, replace(recipe, weight=_rows_times(recipe, scale), bias=shift))


def _scaled(input: Any, other: Any, *, inplace: bool = False, **named: Any) -> Pending | None:
    """A result times a number for each channel, as of LayerScale."""
    turned = _unfinished(input) is None and not inplace
    pending, scale = (other, input) if turned else (input, other)
    recipe = _unfinished(pending)
    if named or recipe is None or recipe.added is not None or not isinstance(scale, Tensor):
        return None
    scale = computed(scale)
    if torch.is_grad_enabled():
        if not _is_weight(scale):
            return None
        bias = None if recipe.bias is None else recipe.bias.detach()
        recipe, scale = replace(recipe, weight=recipe.weight.detach(), bias=bias), scale.detach()
    wanted = [1] * len(pending.extent)
    wanted[recipe.channels] = pending.extent[recipe.channels]
    broadcast = [1] * (len(wanted) - scale.ndim) + list(scale.shape)
    if broadcast != wanted or not _usable(scale):
        return None
    scale = scale.flatten()
    bias = None if recipe.bias is None else recipe.bias * scale
    joined = replace(recipe, weight=_rows_times(recipe, scale), bias=bias)
    return _joined(pending, joined, inplace=inplace)


def _permuted(input: Any, *order: Any, dims: Sequence[int] | None = None) -> Pending | None:
    """A linear layer's result with its channels put behind the images."""
    recipe = _unfinished(input)
    if recipe is None or recipe.geometry is not None or recipe.turned or recipe.added is not None:
        return None
    if input.shared_with is not None:
        return None  # one twin is enough
    axes = dims or (order if len(order) > 1 else order[0])
    size = input.extent
    if len(size) != 4 or [axis % 4 for axis in axes] != [0, 3, 1, 2]:
        return None
    turned = Pending.of(replace(recipe, turned=True), (size[0], size[3], *size[1:3]))
    turned.twin, input.twin = ref(input), ref(turned)
    return turned


def _rows_times(recipe: Recipe, scale: Tensor) -> Tensor:
    return recipe.weight * scale.reshape(-1, *[1] * (recipe.weight.ndim - 1))


def _sum(input: Any, other: Any, *rest: Any, inplace: bool = False, **named: Any) -> Pending | None:
    """A result plus a tensor of its size."""
    turned = _unfinished(input) is None and not inplace
    pending, added = (other, input) if turned else (input, other)
    recipe = _unfinished(pending)
    if rest or named or recipe is None or recipe.added is not None or added is pending:
        return None
    added = computed(added)
    layout = torch.channels_last if recipe.channels == 1 else torch.contiguous_format
    same = isinstance(added, Tensor) and _usable(added) and tuple(added.shape) == pending.extent
    if not same or not added.is_contiguous(memory_format=layout):
        return None
    versions = (*recipe.versions, *versions_of(added))
    return _joined(pending, replace(recipe, added=added, versions=versions), inplace=inplace)


def _activated(input: Any, activation: Activation, *, inplace: bool = False) -> Pending | None:
    """A result with an activation behind it."""
    recipe = _unfinished(input)
    if recipe is None or recipe.turned:
        return None
    if recipe.added is not None and (recipe.geometry is None or activation.name != "relu"):
        return None  # behind a sum PyTorch hands oneDNN only this one, and only of convolutions
    return _joined(input, replace(recipe, activation=activation), inplace=inplace)


def _relu(input: Any, inplace: bool = False) -> Pending | None:
    return _activated(input, Activation("relu"), inplace=inplace)


def _relu6(input: Any, inplace: bool = False) -> Pending | None:
    return _hardtanh(input, 0.0, 6.0, inplace)


def _hardtanh(
    input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Pending | None:
    return _activated(input, Activation("hardtanh", (min_val, max_val)), inplace=inplace)


def _leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Pending | None:
    return _activated(input, Activation("leaky_relu", (negative_slope,)), inplace=inplace)


def _gelu(input: Any, *, approximate: str = "none") -> Pending | None:
    return _activated(input, Activation("gelu", (), approximate))


def _silu(input: Any, inplace: bool = False) -> Pending | None:
    return _activated(input, Activation("swish"), inplace=inplace)


def _hardswish(input: Any, inplace: bool = False) -> Pending | None:
    return _activated(input, Activation("hardswish"), inplace=inplace)


def _dropout(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Pending | None:
    """What is dropped out of nothing stays as it is."""
    return input if _unfinished(input) is not None and not training else None


def _pooled(input: Any, output_size: Any) -> Tensor | None:
    """The mean over all places of a layer that mixes channels: of as many rows as images."""
    sides = output_size if isinstance(output_size, Sequence) else (output_size,)
    return _mean(input, keepdim=True) if set(sides) == {1} else None


def _averaged(input: Any, *axes: Any, keepdim: bool = False, **named: Any) -> Tensor | None:
    """The same, as a mean."""
    dims = named.pop("dim", None) or (axes[0] if len(axes) == 1 else None)
    if named or not isinstance(dims, Sequence) or {axis % 4 for axis in dims} != {2, 3}:
        return None
    return _mean(input, keepdim=keepdim)


def _mean(input: Any, *, keepdim: bool) -> Tensor | None:
    recipe = _unfinished(input)
    if recipe is None or len(input.extent) != 4 or recipe.channels != 1 or not recipe.mixes_alone:
        return None
    mean = recipe.pooled()
    return mean[:, :, None, None] if keepdim else mean


def _joined(pending: Pending, recipe: Recipe, *, inplace: bool = False) -> Pending | None:
    """A result with something more done to it; the same one where it is changed in place.

    None where another would have to change with it.
    """
    if not inplace:
        return Pending.of(recipe, pending.extent)
    if pending.shared_with is not None:
        return None
    pending.recipe = recipe
    return pending


def _unfinished(given: Any) -> Recipe | None:
    """How something will be computed; None where it is, or nothing may join it."""
    if not isinstance(given, Pending) or given.recorded is not torch.is_grad_enabled():
        return None
    recipe = given.recipe
    return None if recipe is None or recipe.activation is not None else recipe


def _usable(*tensors: Tensor | None) -> bool:
    """Whether oneDNN takes them as they are."""
    return all(
        tensor is None
        or (
            type(tensor) in (Tensor, nn.Parameter)
            and tensor.dtype == torch.float32
            and tensor.device.type == "cpu"
            and tensor.layout == torch.strided
        )
        for tensor in tensors
    )


def _is_weight(tensor: Tensor) -> bool:
    """Whether a tensor is a parameter, or one in another shape."""
    return isinstance(tensor if tensor._base is None else tensor._base, nn.Parameter)


def _pair(number: Any) -> tuple[int, int]:
    first, *rest = number if isinstance(number, Sequence) else (number,)
    return int(first), int(rest[0] if rest else first)


Joins = dict[Any, Callable[..., Tensor | None]]
RECORDED: Joins = {F.conv2d: _convolution, F.batch_norm: _normalised, F.dropout: _dropout}
FIXED: Joins = {
    **RECORDED,
    F.linear: _linear,
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__), _sum),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), _scaled),
    **dict.fromkeys((torch.permute, Tensor.permute), _permuted),
    **dict.fromkeys((torch.mean, Tensor.mean), _averaged),
    F.adaptive_avg_pool2d: _pooled,
}
JOINS: Joins = {
    **FIXED,
    **dict.fromkeys((Tensor.add_, Tensor.__iadd__), partial(_sum, inplace=True)),
    **dict.fromkeys((Tensor.mul_, Tensor.__imul__), partial(_scaled, inplace=True)),
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), _relu),
    **dict.fromkeys((torch.relu_, Tensor.relu_), partial(_relu, inplace=True)),
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.leaky_relu: _leaky_relu,
    F.gelu: _gelu,
    F.silu: _silu,
    F.hardswish: _hardswish,
}
