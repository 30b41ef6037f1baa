"""Hooks on a network's modules, and the state of a network that is only looked at.

Training mode, ``requires_grad``, ``.grad``, hooks and buffers are as they were afterwards, after
success and after any exception.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from mitate.errors import LayerError
from mitate.models.mode import evaluating

SCRIPTED = (
    "a TorchScript module does not let its layers be watched: give the module that it was made "
    "from, or a method of pixels, such as gradient, occlusion or rise"
)


@dataclass(frozen=True)
class Place:
    """A layer to tap: a module, its name, and which of its calls in one forward (-1: the last)."""

    module: nn.Module
    name: str
    call: int = -1


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, nothing recorded until a hook says so, whatever the caller's mode is."""
    with evaluating(network), torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def hooked(
    modules: Collection[nn.Module], hook: Callable[[nn.Module, Any, Any], Any]
) -> Iterator[None]:
    """Call a hook after forwards of modules, where the thread that entered this runs them."""
    if any(map(is_scripted, modules)):
        raise LayerError(SCRIPTED)
    heeded = of_this_thread(hook)
    handles = [module.register_forward_hook(heeded) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def of_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that does nothing in other threads."""
    thread = get_ident()
    return lambda *given: hook(*given) if get_ident() == thread else None


def is_scripted(module: nn.Module) -> bool:
    """Whether it is TorchScript's, which has no hooks."""
    return isinstance(module, torch.jit.ScriptModule)


def own_copy(inputs: Tensor) -> Tensor:
    """A copy, for networks that alter their input in place."""
    return inputs.detach().clone()


def first_tensor(output: Any) -> Tensor | None:
    """A module's output where it is a tensor, or the first of several; None of anything else."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    return None


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """A module's output with another tensor in the place of its first one."""
    if isinstance(output, Tensor):
        return tensor
    rest = [tensor, *output[1:]]
    return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)
