"""Linear layers by oneDNN, on processors where PyTorch multiplies matrices at half speed.

On a CPU PyTorch multiplies matrices with MKL, which uses AVX-512 on its own maker's processors
only, and convolves with oneDNN, which asks for the instructions and not for the maker. A linear
layer is a 1x1 convolution: run as one, ConvNeXt-Tiny's forward takes half of its time on an AMD
processor with AVX-512 (Zen 5, torch 2.13), and its backward too. Results differ by the rounding of
float32.
"""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mitate import onednn

FEWEST_ROWS, LEAST_WORK = 256, 15_000_000  # below them the detour costs more than it saves


class ConvolvedLinears(TorchFunctionMode):
    """Runs the large float32 linear layers on a CPU as convolutions while it is entered."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of `F.linear`, and of nothing else."""
        given = dict(kwargs or {})
        run = _linear if func is F.linear else func
        return run(*args, **given)


@contextmanager
def quick_linears() -> Iterator[None]:
    """Run linear layers as convolutions where this processor is known to gain by it."""
    if not gains():
        yield
        return
    with ConvolvedLinears():
        yield


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer, as a convolution where this processor gains by it."""
    return (_linear if gains() else F.linear)(input, weight, bias)


def product(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows (r, n) times a weight (n, m), unrecorded.

    oneDNN's own linear layer takes the weight as it lies; a convolution copies it first, each time.
    """
    if not (gains() and onednn.has_operations() and is_large(rows, weight.t())):
        return rows @ weight
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight.t(), None, "none", [], "")
    return result


@cache
def gains() -> bool:
    """Whether matrices go to MKL here, and this is a processor that it serves at half speed."""
    return (
        torch._C.has_mkl
        and torch._C._has_mkldnn
        and onednn.has_wide_vectors()
        and "AuthenticAMD" in _processor()
    )


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        return listed.read_text(encoding="utf-8", errors="replace")[:2000]
    return platform.processor()


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not is_large(input, weight):
        return F.linear(input, weight, bias)
    rows = input.numel() // input.shape[-1]
    # Rows lie along the width of one picture, and its channels, which come last, are a row.
    picture = input.reshape(1, 1, rows, -1).permute(0, 3, 1, 2)
    output = F.conv2d(picture, weight[:, :, None, None], bias)
    return output.permute(0, 2, 3, 1).reshape(*input.shape[:-1], -1)


def is_large(input: Tensor, weight: Tensor) -> bool:
    """Whether a product in float32 on a CPU is worth a detour."""
    rows, work = input.numel() // max(1, input.shape[-1]), input.numel() * weight.shape[0]
    single = input.dtype == weight.dtype == torch.float32 and weight.layout == torch.strided
    large = rows >= FEWEST_ROWS and work >= LEAST_WORK
    return large and single and weight.ndim == 2 and input.device.type == "cpu"
