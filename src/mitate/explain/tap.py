"""The only place with hooks: what a layer gave, and the gradients of scores with respect to it.

The network is left as it was: training mode, ``requires_grad``, ``.grad``, hooks and buffers, after
success and after any exception. The forward up to the first tapped layer records nothing: the
tapped output becomes the leaf, and autograd begins there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mitate.errors import LayerError
from mitate.models.mode import evaluating

Read = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Place:
    """A layer to tap: a module, its name, and which of its calls in one forward (-1: the last)."""

    module: nn.Module
    name: str
    call: int = -1


@dataclass(frozen=True)
class Call:
    """One call of a module in a forward: where, and the tensor that it gave."""

    name: str
    module: nn.Module
    call: int
    output: Tensor
    version: int


@dataclass(frozen=True)
class TappedForward:
    """The logits of a forward and what the tapped layers gave, in the layers' own layout."""

    logits: Tensor
    activations: tuple[Tensor, ...]

    def gradients(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Gradients of ``scores`` (b, k) at every tapped layer, each (b, k, ...) in its layout.

        A layer that a score does not depend on gets zeros.
        """
        classes = scores.shape[1]
        passes = [
            self._gradients_of(scores[:, k].sum(), keep=k < classes - 1) for k in range(classes)
        ]
        return tuple(torch.stack(layer, dim=1) for layer in zip(*passes, strict=True))

    def _gradients_of(self, score: Tensor, keep: bool) -> tuple[Tensor, ...]:
        if not score.requires_grad:
            return tuple(torch.zeros_like(a) for a in self.activations)
        return torch.autograd.grad(
            score, self.activations, retain_graph=keep, allow_unused=True, materialize_grads=True
        )


def tapped_forward(
    network: nn.Module,
    inputs: Tensor,
    places: Sequence[Place],
    *,
    read: Read,
    gradients: bool = False,
) -> TappedForward:
    """Run one forward and keep what the places gave; ``gradients`` makes them differentiable.

    Raises:
        LayerError: a place was not reached, or gave no tensor.
    """
    outputs: dict[int, list[Tensor]] = {id(place.module): [] for place in places}

    def keep(module: nn.Module, _args: Any, output: Any) -> Any:
        tensor = _first_tensor(output)
        if tensor is None or not tensor.is_floating_point():
            return output
        if not gradients:
            outputs[id(module)].append(tensor.detach().clone())
            return output
        torch.set_grad_enabled(True)
        kept = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        outputs[id(module)].append(kept)
        return _with_first_tensor(output, kept.clone())

    modules = {id(place.module): place.module for place in places}.values()
    with _undisturbed(network), _hooked(modules, keep):
        logits = read(network(_own(inputs)))
    return TappedForward(logits, tuple(_kept(place, outputs) for place in places))


def trace(network: nn.Module, inputs: Tensor) -> list[Call]:
    """Run one forward without gradients and list every call of every module, in finishing order."""
    names = {id(module): name for name, module in network.named_modules()}
    calls: list[Call] = []
    counts: dict[int, int] = {}

    def note(module: nn.Module, _args: Any, output: Any) -> None:
        tensor = _first_tensor(output)
        index = counts.get(id(module), 0)
        counts[id(module)] = index + 1
        if tensor is not None:
            calls.append(Call(names[id(module)], module, index, tensor, tensor._version))

    with _undisturbed(network), _hooked(network.modules(), note):
        network(_own(inputs))
    return calls


@contextmanager
def _undisturbed(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, nothing recorded until a hook says so, whatever the caller's mode is."""
    with evaluating(network), torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def _hooked(modules: Any, hook: Callable[[nn.Module, Any, Any], Any]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _own(inputs: Tensor) -> Tensor:
    """A copy, for networks that alter their input in place."""
    return inputs.detach().clone()


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    return None


def _with_first_tensor(output: Any, tensor: Tensor) -> Any:
    if isinstance(output, Tensor):
        return tensor
    rest = [tensor, *output[1:]]
    return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)


def _kept(place: Place, outputs: dict[int, list[Tensor]]) -> Tensor:
    calls = outputs[id(place.module)]
    try:
        return calls[place.call]
    except IndexError:
        found = (
            f"is run {len(calls)} time(s), and call {place.call} was asked for"
            if calls
            else "is not run by the forward, or gives no numbers"
        )
        raise LayerError(
            f"layer {place.name!r} {found}; `mitate layers` lists the layers that would do"
        ) from None
