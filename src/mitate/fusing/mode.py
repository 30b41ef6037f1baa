"""The mode in which a network is run while its layers are put off."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mitate import onednn
from mitate.fixed import fixed_gelu, fixed_linear
from mitate.fusing.joining import FIXED, JOINS, RECORDED
from mitate.fusing.pending import Pending, computed, memory_of, tensors_in
from mitate.linears import linear

FEWEST_INPUTS = 1_000_000  # numbers of a batch: with fewer, Python's share of a forward grows large
# What gives the numbers away to code that may write them without a function of torch.
HANDING_OUT = {"numpy", "__array__", "data_ptr", "storage", "untyped_storage", "__dlpack__"}
METADATA = {
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.__len__,
    Tensor.is_floating_point,
    *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "is_cuda")),
}


FOR_FIXED: dict[Any, Callable[..., Tensor]] = {F.linear: fixed_linear, F.gelu: fixed_gelu}


class Fusing(TorchFunctionMode):
    """Puts off convolutions and linear layers while it is entered."""

    def __init__(self, *, fixed: bool = False) -> None:
        """Nothing is put off yet; ``fixed`` where no gradient is asked of the weights."""
        super().__init__()
        self.instead = FOR_FIXED if fixed else {F.linear: linear}
        self.recorded = FIXED if fixed else RECORDED
        self.begun: list[ref[Pending]] = []
        self.handed_out: set[int] = set()

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
        join = (self.recorded if torch.is_grad_enabled() else JOINS).get(func)
        as_written = (join is not None or func in self.instead) and _is_checkpointed()
        if join is not None and not as_written and not torch.is_autocast_enabled("cpu"):
            joined = join(*args, **named)
            if isinstance(joined, Pending):
                self.begun.append(ref(joined))
                if joined.recipe and joined.recipe.reads(self.handed_out):
                    return joined.result()
            if joined is not None:
                return joined
        hands_out = getattr(func, "__name__", "") in HANDING_OUT
        if hands_out:
            args, named, among = computed(args), computed(dict(named)), False
            self.handed_out |= _places((args, named))
        if self.begun and (hands_out or _writes(func, args, named)):
            memory = _places((args, named))
            for pending in self._alive():
                if pending.recipe is not None and pending.recipe.reads(memory):
                    pending.result()
        if among:
            args, named = computed(args), computed(dict(named))
        return (func if as_written else self.instead.get(func, func))(*args, **named)

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


def _is_checkpointed() -> bool:
    """Whether what is recorded is seen by hooks: a checkpoint's backward runs it as it is written.

    Its forward has to save the same tensors.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks
    return torch.is_grad_enabled() and hooks(True) is not None


def pays(images: Tensor) -> bool:
    """Whether a forward of these images gains: many of float32, on an x86 processor with oneDNN."""
    return (
        onednn.convolves(images)
        and images.numel() >= FEWEST_INPUTS
        and onednn.has_operations()
        and type(images) is Tensor
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._functorch.is_functorch_wrapped_tensor(images)
    )


def _writes(func: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Whether a function may change what it is given; some are told so by a flag."""
    name = getattr(func, "__name__", "")
    return (
        (name.endswith("_") and not name.endswith("__"))
        or name.startswith(("__i", "__set"))
        or named.get("out") is not None
        or any(flag is True for flag in (*args, *named.values()))
    )


def _places(given: Any) -> set[int]:
    """Where the numbers of arguments are, of those that have any."""
    found = (one.value if isinstance(one, Pending) else one for one in tensors_in(given))
    return {memory_of(one) for one in found if one is not None and one.layout == torch.strided}
