"""A second device without a second processor: what a GPU would refuse is refused here.

Tensors on the device ``second`` are wrappers that run each operation on the CPU, after a look at
where its tensors are: PyTorch's own way of writing a backend in Python
(``torch.utils.backend_registration``). Tensors of several devices in one operation, a generator of
another device and an array of a tensor that is not on the CPU raise, as they do on CUDA; and with
``SECOND_DOUBLES=0`` in the environment double precision does, as on a Mac's ``mps``. Tracing does
not see through wrappers, so that compiled graphs cannot be tried here.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "second"
DOUBLES = os.environ.get("SECOND_DOUBLES", "1") == "1"
MOVING = ("aten::copy_", "aten::_to_copy", "aten::_copy_from")
INDEXING = ("aten::index", "aten::_index", "aten::_unsafe_index")  # take CPU indices on CUDA too
INDICES = (torch.long, torch.int32, torch.bool, torch.uint8)
_tensor = torch.tensor


class Second(Tensor):
    """A tensor of the second device; ``raw`` are its numbers on the CPU."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> "Second":
        made = Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )
        made.raw = raw
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})

    # What PyTorch does in C++ with tensors of its own devices, and refuses wrappers.
    def data_ptr(self) -> int:
        return self.raw.data_ptr()

    def tolist(self) -> Any:
        return self.raw.tolist()

    def new_tensor(self, data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device)

    def __getitem__(self, index: Any) -> Tensor:
        parts = index if isinstance(index, tuple) else (index,)
        moved = [
            _tensor(part).to(self.device) if isinstance(part, list) else part for part in parts
        ]
        return super().__getitem__(tuple(moved))


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = function._schema.name
    _check(function, name, pytree.tree_leaves((args, kwargs)))
    raw_args, raw_kwargs = pytree.tree_map_only(Second, lambda tensor: tensor.raw, (args, kwargs))
    wanted = raw_kwargs.get("device")
    if wanted is not None:
        raw_kwargs["device"] = torch.device("cpu")
    out = function(*raw_args, **raw_kwargs)
    if name == "aten::copy_" and not isinstance(args[0], Second):
        return args[0]
    if wanted is not None and torch.device(wanted).type == "cpu":
        return out
    if not DOUBLES and any(
        isinstance(one, Tensor) and one.dtype == torch.float64 for one in pytree.tree_leaves(out)
    ):
        raise TypeError(f"{function}: the device {NAME!r} has no double precision")
    out = pytree.tree_map_only(Tensor, Second, out)
    return return_and_correct_aliasing(function, args, kwargs, out)


def _check(function: Any, name: str, given: Sequence[Any]) -> None:
    tensors = [one for one in given if isinstance(one, Tensor) and one.ndim]
    stray = [one for one in tensors if not isinstance(one, Second)]
    if name.startswith(INDEXING):
        stray = [one for one in stray if one.dtype not in INDICES]
    if name not in MOVING and stray and len(stray) < len(tensors):
        raise RuntimeError(f"{function}: expected all tensors to be on the same device")
    if any(isinstance(one, torch.Generator) for one in given):
        raise RuntimeError(f"{function}: expected a generator of the device {NAME!r}")


class _Module(_DummyBackendModule):
    def get_rng_state(self, device: object = None) -> Tensor:
        return torch.zeros(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


@cache
def _registered() -> Any:
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda function, *args, **kwargs: _run(function, args, kwargs), "PrivateUse1")
    return library


def _made(data: Any, *, device: Any = None, **settings: Any) -> Tensor:
    if device is not None and torch.device(device).type == NAME:
        return _tensor(data, **settings).to(device)
    return _tensor(data, device=device, **settings)


@contextmanager
def device() -> Iterator[torch.device]:
    """The device; while it is entered ``torch.tensor`` knows it too."""
    _registered()
    torch.tensor = _made
    try:
        yield torch.device(NAME, 0)
    finally:
        torch.tensor = _tensor
