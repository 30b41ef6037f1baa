"""How a network is run: in evaluation mode and at full speed, and left as it was."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakSet

import torch
import torch.utils.checkpoint as checkpoints
from torch import Tensor, nn

from mitate import fusing, onednn
from mitate.allocation import keeping_memory
from mitate.linears import quick_linears
from mitate.sharing import Together, turn

Result = TypeVar("Result")
USUAL_BATCH, USUAL_IMAGE = 16, 3 * 224 * 224  # numbers of an image
LARGEST_BATCH = 128
CHECKPOINTING = ("grad_checkpointing", "memory_efficient")  # timm's and torchvision's flags
_as_given: WeakSet[nn.Module] = WeakSet()  # networks that can be run in no other way
_evaluated: ContextVar[tuple[nn.Module, ...]] = ContextVar("evaluated", default=())
_written: ContextVar[bool] = ContextVar("written", default=False)
_fusing: ContextVar[bool] = ContextVar("fusing", default=False)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and back to the mode it had, whatever happens.

    Activation checkpointing is switched off too: it runs layers again in the backward, where taps
    and hooks would meet them twice. While it is entered for a network, entering it again costs
    nothing, and another thread that would enter it for the same network waits.
    """
    if network in _evaluated.get():
        yield
        return
    with switched_off(network):
        token = _evaluated.set((*_evaluated.get(), network))
        quick = nullcontext() if _written.get() or _fusing.get() else quick_linears()
        try:
            with (
                _keeping_buffers(network),
                _without_checkpoints(),
                _without_compiler(),
                quick,
            ):
                yield
        finally:
            _evaluated.reset(token)


@contextmanager
def switched_off(network: nn.Module) -> Iterator[None]:
    """The mode alone, without what makes forwards quick: for what goes back through a network."""
    with turn(network):
        switched = [
            (module, flag)
            for module in network.modules()
            for flag in ("training", *(flag for flag in CHECKPOINTING if flag in vars(module)))
            if getattr(module, flag, None) is True  # frozen TorchScript has no mode
        ]
        for module, flag in switched:
            setattr(module, flag, False)
        try:
            yield
        finally:
            for module, flag in switched:
                setattr(module, flag, True)


@contextmanager
def _keeping_buffers(network: nn.Module) -> Iterator[None]:
    """Give back the buffers that a network's forward writes to, such as counters and observers.

    A batch norm in evaluation mode writes to none.
    """
    kept = [
        (module, name, buffer, buffer.clone(), _version(buffer))
        for module in network.modules()
        if not isinstance(module, nn.modules.batchnorm._NormBase)
        for name, buffer in module.named_buffers(recurse=False)
        if not isinstance(buffer, nn.UninitializedBuffer)
    ]
    try:
        yield
    finally:
        for module, name, buffer, copy, version in kept:
            if version is None or buffer._version != version:
                with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                    buffer.resize_(copy.shape).copy_(copy)
            if name not in module._buffers or module._buffers[name] is not buffer:
                module._buffers[name] = buffer


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was written to; None where PyTorch does not count."""
    return None if tensor.is_inference() else tensor._version


_eagerly = Together(lambda: torch.compiler.set_stance("force_eager"))  # of all threads


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Put off compiled code of modules and functions, and let it be traced.

    Hooks make it begin anew, and its backward frees what a second class needs.
    """
    if "torch._dynamo" not in sys.modules:  # nothing was compiled
        yield
        return
    from torch._dynamo import config

    with _eagerly(), config.patch(error_on_nested_fx_trace=False):  # the one is each thread's own
        yield


class _Plain:
    """In the place of the autograd function that runs layers again."""

    @staticmethod
    def apply(function: Callable[..., Any], _preserve: bool, *args: Any) -> Any:
        """What the function gives, recorded as elsewhere."""
        return function(*args)


def _nothing(*_given: Any, **_named: Any) -> Iterator[None]:
    """In the place of the generator around what is run again."""
    yield


PLAIN = {"CheckpointFunction": _Plain, "_checkpoint_without_reentrant_generator": _nothing}


@contextmanager
def _plain_checkpoints() -> Iterator[None]:
    """Let ``torch.utils.checkpoint`` call what it is given, for networks that call it themselves.

    Its two ways, reentrant and not, are named by the module alone; where a version of PyTorch
    names them otherwise, they stay as they are.
    """
    found = {name: vars(checkpoints)[name] for name in PLAIN if name in vars(checkpoints)}
    try:
        for name in found:
            setattr(checkpoints, name, PLAIN[name])
        yield
    finally:
        for name, own in found.items():
            setattr(checkpoints, name, own)


_without_checkpoints = Together(_plain_checkpoints)


@contextmanager
def as_written() -> Iterator[None]:
    """Leave operations and layouts as the network has them, while entered: for what compiles it."""
    token = _written.set(True)
    try:
        yield
    finally:
        _written.reset(token)


def at_full_speed(
    network: nn.Module, images: Tensor, run: Callable[[Tensor], Result], *, fixed: bool = False
) -> Result:
    """Run something of a network in the way that is fastest for these images.

    On a CPU oneDNN convolves float32 fastest where channels lie last, and what follows keeps that;
    what nothing records runs in one go with its batch norm, addition and activation
    (``mitate.fusing``); and memory is kept from layer to layer. A ResNet-50's forward takes 0.6 of
    its time, a MobileNetV2's 0.35. Results differ by rounding. A network that cannot be run so (it
    takes a ``view`` of a layer's output, or hands tensors to code of its own) is run as it is.

    Args:
        network: what is run.
        images: preprocessed, (b, channels, H, W) or of volumes.
        run: from the images to a result; run again where the first try raises.
        fixed: no gradient of the weights is asked of what is recorded.
    """
    if _written.get() or network in _as_given or not onednn.convolves(images):
        return run(images)
    laid = images
    if images.ndim == 4:
        laid = images.contiguous(memory_format=torch.channels_last)
    try:
        with keeping_memory(), _fused(fixed) if fusing.pays(images) else nullcontext():
            return run(laid)
    except RuntimeError as exc:
        for_good = not is_out_of_memory(exc)
    result = run(images)  # which raises again where the way is not to blame
    if for_good:
        _as_given.add(network)
    return result


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether an error of torch is of memory: of a GPU's, or as its CPU allocator words it."""
    if isinstance(exc, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(exc, RuntimeError) and "DefaultCPUAllocator" in str(exc)


def batch_for(images: Tensor, said: int | None = None) -> int:
    """How many of such images go through a network at once: what was said, or else by their size.

    16 of 3 x 224 x 224 numbers, as 16 of larger ones, and of smaller ones as many as hold the same:
    at 128 px a ConvNeXt-Atto's image takes 0.7 of its time in 48 that it takes in 16, on two cores.
    """
    if said:
        return said
    fitting = USUAL_BATCH * USUAL_IMAGE // max(1, images[:1].numel())
    return min(LARGEST_BATCH, max(USUAL_BATCH, fitting // 8 * 8))


@contextmanager
def _fused(fixed: bool) -> Iterator[None]:
    token = _fusing.set(True)
    try:
        with fusing.Fusing(fixed=fixed):
            yield
    finally:
        _fusing.reset(token)
