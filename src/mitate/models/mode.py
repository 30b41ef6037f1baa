"""How a network is run: in evaluation mode and at full speed, and left as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from mitate import onednn
from mitate.linears import quick_linears

Result = TypeVar("Result")
_as_given: WeakSet[nn.Module] = WeakSet()  # networks that cannot take their images otherwise
_written: ContextVar[bool] = ContextVar("written", default=False)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and back to the mode it had, whatever happens."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with nullcontext() if _written.get() else quick_linears():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def as_written() -> Iterator[None]:
    """Leave operations and layouts as the network has them, while entered: for what compiles it."""
    token = _written.set(True)
    try:
        yield
    finally:
        _written.reset(token)


def in_best_layout(network: nn.Module, images: Tensor, run: Callable[[Tensor], Result]) -> Result:
    """Run something on images in the memory format in which the network is fastest.

    On a CPU oneDNN convolves float32 fastest where channels lie last, and what follows keeps that:
    a ResNet-50's forward takes 0.7 of its time. Results differ by rounding. A network that cannot
    be given its images so (it takes a ``view`` of a layer's output) gets them as they are.

    Args:
        network: what is run.
        images: preprocessed, (b, channels, H, W) or of volumes.
        run: from the images to a result; run again where the first try raises.
    """
    if _written.get() or network in _as_given or not _gains(images):
        return run(images)
    try:
        return run(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        result = run(images)  # which raises again where the layout is not to blame
        _as_given.add(network)
        return result


def _gains(images: Tensor) -> bool:
    return images.ndim == 4 and not images.requires_grad and onednn.convolves(images)
