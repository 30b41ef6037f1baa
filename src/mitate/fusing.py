"""Convolutions and linear layers on a CPU, run in one go with what follows them.

A network as it is written computes a convolution, then its batch norm, then its activation, and
each of them reads and writes every number of a layer. oneDNN does all three in one pass. While
``Fusing`` is entered, a convolution or a linear layer is put off: what stands for its result knows
how to compute it. A batch norm, an addition or an activation that comes next joins it; whatever
else is done with it computes it first. So the network's own code is run as ever, with its branches
and hooks. Where gradients are recorded a batch norm alone joins a convolution, as a scale of its
weights that is recorded too. Results differ by the rounding of float32.
"""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from math import prod
from typing import Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mitate import onednn
from mitate.linears import gains, linear

FEWEST_INPUTS = 1_000_000  # numbers of a batch: with fewer, Python's share of a forward grows large
FEWEST_OUTPUTS = 400_000  # numbers: one more pass over fewer costs less than to put it off
MOST_INPUTS = 512  # of a linear layer: with more MKL multiplies faster than oneDNN saves by fusing

UNCONNECTED = "a function that autograd does not see was given a layer that is put off"
_alone: dict[int, ref[Tensor]] = {}  # weights of layers that nothing joined


@dataclass(frozen=True)
class Activation:
    """What is done to each number, by oneDNN's name for it."""

    name: str
    numbers: tuple[float, ...] = ()
    algorithm: str = "none"

    @property
    def told(self) -> list[Any]:
        """As oneDNN's operations take it."""
        return [self.name, list(self.numbers), self.algorithm]


@dataclass(frozen=True)
class Geometry:
    """How a kernel is laid on an image."""

    padding: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class Recipe:
    """How a result that was put off is computed.

    Attributes:
        layer: the weight of the convolution or of the linear layer.
        input: its own.
        weight: the layer's, times the scale of a batch norm that joined it.
        bias: likewise.
        geometry: of a convolution; None for a linear layer.
        added: to the result, before the activation.
        activation: of the sum.
        versions: of what it reads, input and added, as they were then.
    """

    layer: Tensor
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry | None = None
    added: Tensor | None = None
    activation: Activation | None = None
    versions: tuple[int | None, ...] = ()

    @property
    def is_alone(self) -> bool:
        """Whether nothing has joined the layer."""
        return self.weight is self.layer and self.added is None and self.activation is None

    def reads(self, memory: set[int]) -> bool:
        """Whether it is computed from any of these places in memory."""
        given = (self.input, self.weight, self.bias, self.added)
        return any(tensor is not None and _memory(tensor) in memory for tensor in given)

    def computed(self) -> Tensor:
        """The result.

        Raises:
            RuntimeError: what it is computed from was changed by what no Python function does.
        """
        read = (self.input,) if self.added is None else (self.input, self.added)
        if self.versions != _versions(*read):
            raise RuntimeError("a tensor was changed in place before a layer that took it was run")
        shape = self.geometry
        if self.added is None and self.activation is None:
            if shape is None:
                return linear(self.input, self.weight, self.bias)
            laid = (shape.stride, shape.padding, shape.dilation, shape.groups)
            return F.conv2d(self.input, self.weight, self.bias, *laid)
        ops: Any = torch.ops.mkldnn
        run = ops._linear_pointwise if shape is None else ops._convolution_pointwise
        given: list[Any] = [self.input, self.weight, self.bias]
        if shape is not None:
            given += [shape.padding, shape.stride, shape.dilation, shape.groups]
        if self.added is not None:
            run = run.binary
            given.insert(1, self.added)
            given += ["add"] if shape is None else ["add", 1.0]
        if shape is not None or self.added is None:
            given += [None, [], None] if self.activation is None else self.activation.told
        result: Tensor = run(*given)
        return result


class Pending(Tensor):
    """Stands for a result that is computed when it is needed."""

    recipe: Recipe | None
    value: Tensor | None
    extent: tuple[int, ...]
    recorded: bool

    @staticmethod
    def of(recipe: Recipe, size: tuple[int, ...]) -> "Pending":
        """What a recipe will give."""
        like = recipe.input
        pending = Tensor._make_wrapper_subclass(Pending, size, dtype=like.dtype, device=like.device)
        pending.recipe, pending.value, pending.extent = recipe, None, size
        pending.recorded = torch.is_grad_enabled()
        return pending

    def result(self) -> Tensor:
        """The result, computed once."""
        if self.recipe is not None:
            if self.recipe.is_alone:
                _note_alone(self.recipe.layer)
            with torch.set_grad_enabled(self.recorded), torch._C.DisableTorchFunction():
                self.value, self.recipe = self.recipe.computed(), None
        assert self.value is not None
        return self.value

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute what is given, and go on with it."""
        return func(*_computed(args), **_computed(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The same for what calls operations past Python, as TorchScript does.

        Raises:
            RuntimeError: what is recorded would be parted from its gradient here.
        """
        given = _tensors((args, kwargs or {}))
        if any(one.recorded for one in given if isinstance(one, Pending)):
            raise RuntimeError(UNCONNECTED)
        return func(*_computed(args), **_computed(kwargs or {}))


class Fusing(TorchFunctionMode):
    """Puts off convolutions and linear layers while it is entered."""

    def __init__(self) -> None:
        """Nothing is put off yet."""
        super().__init__()
        self.begun: list[ref[Pending]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Put a result off, add to one that is, or compute what the function needs."""
        named = kwargs or {}
        among = Pending in types
        if among and func in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **named)
        join = (RECORDED if torch.is_grad_enabled() else JOINS).get(func)
        if join is not None:
            joined = join(*args, **named)
            if joined is not None:
                self.begun.append(ref(joined))
                return joined
        if self.begun and _writes(func, args, named):
            memory = _places((args, named))
            for pending in self._alive():
                if pending.recipe is not None and pending.recipe.reads(memory):
                    pending.result()
        if among:
            args, named = _computed(args), _computed(dict(named))
        return (linear if func is F.linear else func)(*args, **named)

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        """Compute what still waits: what it would be computed from may change now."""
        super().__exit__(kind, *raised)  # type: ignore[no-untyped-call]
        for pending in self._alive():
            if kind is None:
                pending.result()
            pending.recorded = False  # its result has the gradient, and no forward goes on

    def _alive(self) -> list[Pending]:
        """What was put off and is still referred to."""
        found = [pending for one in self.begun if (pending := one()) is not None]
        self.begun = [ref(pending) for pending in found]
        return found


def pays(images: Tensor) -> bool:
    """Whether a forward of these images gains: many of float32, on an x86 processor with oneDNN."""
    return (
        onednn.convolves(images)
        and images.numel() >= FEWEST_INPUTS
        and _has_operations()
        and type(images) is Tensor
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._functorch.is_functorch_wrapped_tensor(images)
    )


@cache
def _has_operations() -> bool:
    ops = torch.ops.mkldnn
    found = hasattr(ops, "_convolution_pointwise") and hasattr(ops, "_linear_pointwise")
    return found and platform.machine() in ("x86_64", "AMD64")


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Pending | None:
    if _was_alone(weight):
        return None
    input = _computed(input)
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
    recipe = Recipe(weight, input, weight, bias, shape, versions=_versions(input))
    return _put_off(recipe, (len(input), len(weight), *sides))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Pending | None:
    if _was_alone(weight):
        return None
    input = _computed(input)
    if not _usable(input, weight, bias) or input.ndim < 2 or weight.ndim != 2:
        return None
    if input.shape[-1] != weight.shape[1] or not input.is_contiguous():
        return None
    if weight.shape[1] > MOST_INPUTS and not gains():
        return None
    recipe = Recipe(weight, input, weight, bias, versions=_versions(input))
    return _put_off(recipe, (*input.shape[:-1], len(weight)))


def _put_off(recipe: Recipe, size: tuple[int, ...]) -> Pending | None:
    """What will be computed; None where it is small, or its bias is of another size."""
    fits = recipe.bias is None or recipe.bias.shape == recipe.weight.shape[:1]
    return Pending.of(recipe, size) if fits and prod(size) >= FEWEST_OUTPUTS else None


def _note_alone(layer: Tensor) -> None:
    """Remember that nothing joined a layer: it is not put off again."""
    _alone[id(layer)] = ref(layer, partial(_alone.pop, id(layer)))


def _was_alone(layer: Tensor) -> bool:
    noted = _alone.get(id(layer))
    return noted is not None and noted() is layer


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
    scaled = recipe.weight * scale[:, None, None, None]
    return _joined(input, replace(recipe, weight=scaled, bias=shift))


def _sum(one: Any, other: Any, *rest: Any, inplace: bool = False, **named: Any) -> Pending | None:
    """A result plus a tensor of its size."""
    turned = _unfinished(one) is None and not inplace
    pending, added = (other, one) if turned else (one, other)
    recipe = _unfinished(pending)
    if rest or named or recipe is None or recipe.added is not None or added is pending:
        return None
    added = _computed(added)
    layout = torch.contiguous_format if recipe.geometry is None else torch.channels_last
    same = isinstance(added, Tensor) and _usable(added) and tuple(added.shape) == pending.extent
    if not same or not added.is_contiguous(memory_format=layout):
        return None
    versions = (*recipe.versions, *_versions(added))
    return _joined(pending, replace(recipe, added=added, versions=versions), inplace=inplace)


def _activated(input: Any, activation: Activation, *, inplace: bool = False) -> Pending | None:
    """A result with an activation behind it."""
    recipe = _unfinished(input)
    if recipe is None:
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


RECORDED: dict[Any, Callable[..., Pending | None]] = {
    F.conv2d: _convolution,
    F.batch_norm: _normalised,
    F.dropout: _dropout,
}
JOINS: dict[Any, Callable[..., Pending | None]] = {
    **RECORDED,
    F.linear: _linear,
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__), _sum),
    **dict.fromkeys((Tensor.add_, Tensor.__iadd__), partial(_sum, inplace=True)),
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), _relu),
    **dict.fromkeys((torch.relu_, Tensor.relu_), partial(_relu, inplace=True)),
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.leaky_relu: _leaky_relu,
    F.gelu: _gelu,
    F.silu: _silu,
    F.hardswish: _hardswish,
}
METADATA = {
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.__len__,
    Tensor.is_floating_point,
    *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "is_cuda")),
}


def _joined(pending: Pending, recipe: Recipe, *, inplace: bool = False) -> Pending:
    """A result with something more done to it; the same one where it is changed in place."""
    if not inplace:
        return Pending.of(recipe, pending.extent)
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


def _versions(*tensors: Tensor) -> tuple[int | None, ...]:
    """How often each was changed in place; None where that is not counted."""
    return tuple(None if tensor.is_inference() else tensor._version for tensor in tensors)


def _pair(number: Any) -> tuple[int, int]:
    first, *rest = number if isinstance(number, Sequence) else (number,)
    return int(first), int(rest[0] if rest else first)


def _writes(func: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Whether a function may change what it is given; some are told so by a flag."""
    name = getattr(func, "__name__", "")
    return (
        (name.endswith("_") and not name.endswith("__"))
        or name.startswith(("__i", "__set"))
        or named.get("out") is not None
        or any(flag is True for flag in (*args, *named.values()))
    )


def _memory(tensor: Tensor) -> int:
    """Where its numbers are."""
    return int(tensor.untyped_storage()._cdata)


def _tensors(given: Any) -> Iterator[Tensor]:
    """The tensors in arguments."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, Mapping):
        yield from _tensors(list(given.values()))
    elif isinstance(given, list | tuple):
        for each in given:
            yield from _tensors(each)


def _places(given: Any) -> set[int]:
    """Where the numbers of arguments are, of those that have any."""
    found = (one.value if isinstance(one, Pending) else one for one in _tensors(given))
    return {_memory(one) for one in found if one is not None and one.layout == torch.strided}


def _computed(given: Any) -> Any:
    """Arguments with each tensor computed."""
    if isinstance(given, Pending):
        if given.recorded and not torch.is_grad_enabled():
            raise RuntimeError(UNCONNECTED)
        return given.result()
    if type(given) in (list, tuple):
        return type(given)(_computed(each) for each in given)
    if type(given) is dict:
        return {name: _computed(each) for name, each in given.items()}
    return given
