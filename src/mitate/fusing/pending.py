"""Results that are put off, and how they are computed when they are needed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor

from mitate.fixed import fixed_linear
from mitate.linears import gains, linear
from mitate.onednn import has_wide_vectors

MOST_INPUTS = 512  # of a linear layer: with more MKL multiplies faster than oneDNN saves by fusing
IN_PLACE: dict[str, Callable[..., Tensor]] = {
    "relu": torch.ops.aten.relu_,
    "hardtanh": torch.ops.aten.hardtanh_,
    "leaky_relu": torch.ops.aten.leaky_relu_,
    "gelu": torch.ops.aten.gelu_,
    "swish": torch.ops.aten.silu_,
    "hardswish": torch.ops.aten.hardswish_,
}
UNCONNECTED = "a function that autograd does not see was given a layer that is put off"
# Weights of layers that nothing joined, where something is recorded and where nothing is.
_alone: dict[tuple[int, bool], ref[Tensor]] = {}


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

    def done_to(self, result: Tensor) -> Tensor:
        """In its own memory, without oneDNN."""
        named = {"approximate": self.algorithm} if self.name == "gelu" else {}
        return IN_PLACE[self.name](result, *self.numbers, **named)


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
        weight: the layer's, times the scale that joined it, of a batch norm or of each channel.
        bias: likewise.
        geometry: of a convolution; None for a linear layer.
        turned: whether a linear layer's channels are put behind the images, as a convolution's.
        added: to the result, before the activation.
        activation: of the sum.
        versions: of what it reads, input and added, as they were then.
    """

    layer: Tensor
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry | None = None
    turned: bool = False
    added: Tensor | None = None
    activation: Activation | None = None
    versions: tuple[int | None, ...] = ()

    @property
    def is_alone(self) -> bool:
        """Whether nothing has joined the layer."""
        return self.weight is self.layer and self.added is None and self.activation is None

    @property
    def channels(self) -> int:
        """The axis of the result's channels."""
        return 1 if self.turned or self.geometry is not None else self.input.ndim - 1

    def reads(self, memory: set[int]) -> bool:
        """Whether it is computed from any of these places in memory."""
        given = (self.input, self.weight, self.bias, self.added)
        return any(tensor is not None and memory_of(tensor) in memory for tensor in given)

    def computed(self) -> Tensor:
        """The result.

        Raises:
            RuntimeError: what it is computed from was changed by what no Python function does.
        """
        self._check()
        if self.turned:
            added = None if self.added is None else self.added.movedim(1, -1)
            return replace(self, turned=False, added=added, versions=()).run().movedim(-1, 1)
        return self.run()

    @property
    def mixes_alone(self) -> bool:
        """Whether each place of the result is of that of the input alone, but for an activation."""
        if self.geometry is None:
            return True
        stride, padding, groups = self.geometry.stride, self.geometry.padding, self.geometry.groups
        kernel = tuple(self.weight.shape[2:])
        return (kernel, stride, padding, groups) == ((1, 1), (1, 1), (0, 0), 1)

    def pooled(self) -> Tensor:
        """The mean over all places (b, channels) of what ``mixes_alone``: of the inputs' mean.

        Raises:
            RuntimeError: as ``computed``.
        """
        self._check()
        places = (1, 2) if self.geometry is None else (2, 3)
        mean = linear(self.input.mean(places), self.weight.flatten(1), self.bias)
        return mean if self.added is None else mean + self.added.mean((2, 3))

    def _check(self) -> None:
        read = (self.input,) if self.added is None else (self.input, self.added)
        if self.versions != versions_of(*read):
            raise RuntimeError("a tensor was changed in place before a layer that took it was run")

    def run(self) -> Tensor:
        """The result of what is not turned, as it stands."""
        shape, plain = self.geometry, self.added is None and self.activation is None
        if torch.is_grad_enabled() or plain:
            result = self._alone()
            return result if self.added is None else result + self.added
        if shape is None and not fuses(self.weight):
            result = self._alone()
            result = result if self.added is None else result.add_(self.added)
            return result if self.activation is None else self.activation.done_to(result)
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
        joined: Tensor = run(*given)
        return joined

    def _alone(self) -> Tensor:
        """The layer's own result, recorded where it is."""
        shape = self.geometry
        if shape is None:
            return fixed_linear(self.input, self.weight, self.bias)
        laid = (shape.stride, shape.padding, shape.dilation, shape.groups)
        return F.conv2d(self.input, self.weight, self.bias, *laid)


class Pending(Tensor):
    """Stands for a result that is computed when it is needed."""

    recipe: Recipe | None
    value: Tensor | None
    extent: tuple[int, ...]
    recorded: bool
    twin: "ref[Pending] | None"  # what it was turned from, or into: they share their memory

    @staticmethod
    def of(recipe: Recipe, size: tuple[int, ...]) -> "Pending":
        """What a recipe will give."""
        like = recipe.input
        pending = Tensor._make_wrapper_subclass(Pending, size, dtype=like.dtype, device=like.device)
        pending.recipe, pending.value, pending.extent = recipe, None, size
        pending.recorded = torch.is_grad_enabled()
        pending.twin = None
        return pending

    @property
    def shared_with(self) -> "Pending | None":
        """What would change with it, and is still referred to."""
        return None if self.twin is None else self.twin()

    def result(self) -> Tensor:
        """The result, computed once."""
        twin = self.shared_with
        if self.recipe is not None and self.recipe.turned and twin is not None:
            twin.result()
        if self.recipe is not None:
            if self.recipe.is_alone:
                _note_alone(self.recipe.layer, self.recorded)
            with (
                torch.set_grad_enabled(self.recorded),
                torch.autocast("cpu", enabled=False),  # as where it was put off
                torch._C.DisableTorchFunction(),
            ):
                self.value, self.recipe = self.recipe.computed(), None
                if twin is not None:
                    twin.value, twin.recipe = self.value.movedim(-1, 1), None
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
        return func(*computed(args), **computed(kwargs or {}))

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
        given = tensors_in((args, kwargs or {}))
        if any(one.recorded for one in given if isinstance(one, Pending)):
            raise RuntimeError(UNCONNECTED)
        return func(*computed(args), **computed(kwargs or {}))


def fuses(weight: Tensor) -> bool:
    """Whether oneDNN does a linear layer and what joins it in less time than one after another.

    With AVX2 alone its GELU takes three times as long as PyTorch's own in place (Zen 3).
    """
    return gains() or (has_wide_vectors() and weight.shape[1] <= MOST_INPUTS)


def _note_alone(layer: Tensor, recorded: bool) -> None:
    """Remember that nothing joined a layer: it is not put off again."""
    key = id(layer), recorded
    _alone[key] = ref(layer, partial(_alone.pop, key))


def was_alone(layer: Tensor) -> bool:
    """Whether nothing joined a layer when it was put off before."""
    noted = _alone.get((id(layer), torch.is_grad_enabled()))
    return noted is not None and noted() is layer


@contextmanager
def forgetting() -> Iterator[None]:
    """Forget which layers nothing joined meanwhile: taps of many layers made it so."""
    before = set(_alone)
    try:
        yield
    finally:
        for key in _alone.keys() - before:
            _alone.pop(key, None)


def versions_of(*tensors: Tensor) -> tuple[int | None, ...]:
    """How often each was changed in place; None where that is not counted."""
    return tuple(None if tensor.is_inference() else tensor._version for tensor in tensors)


def memory_of(tensor: Tensor) -> int:
    """Where its numbers are."""
    return int(tensor.untyped_storage()._cdata)


def tensors_in(given: Any) -> Iterator[Tensor]:
    """The tensors in arguments."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, Mapping):
        yield from tensors_in(list(given.values()))
    elif isinstance(given, list | tuple):
        for each in given:
            yield from tensors_in(each)


def computed(given: Any) -> Any:
    """Arguments with each tensor computed."""
    if isinstance(given, Pending):
        if given.recorded and not torch.is_grad_enabled():
            raise RuntimeError(UNCONNECTED)
        return given.result()
    if type(given) in (list, tuple):
        return type(given)(computed(each) for each in given)
    if type(given) is dict:
        return {name: computed(each) for name, each in given.items()}
    return given
