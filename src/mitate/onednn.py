"""What oneDNN does on a CPU: convolutions, fastest of channels that lie last, and fused layers."""

import platform
from functools import cache

import torch
from torch import Tensor


def convolves(images: Tensor) -> bool:
    """Whether they are of float32 and on a CPU, and this PyTorch has oneDNN."""
    return images.dtype == torch.float32 and images.device.type == "cpu" and torch._C._has_mkldnn


@cache
def has_operations() -> bool:
    """Whether PyTorch hands it a layer with what follows in one go, on this kind of processor."""
    ops = torch.ops.mkldnn
    found = hasattr(ops, "_convolution_pointwise") and hasattr(ops, "_linear_pointwise")
    return found and platform.machine() in ("x86_64", "AMD64")


def has_wide_vectors() -> bool:
    """Whether PyTorch computes with AVX-512 on this processor."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"
