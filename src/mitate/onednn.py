"""Which convolutions oneDNN does: there channels that lie last are fastest."""

import torch
from torch import Tensor


def convolves(images: Tensor) -> bool:
    """Whether they are of float32 and on a CPU, and this PyTorch has oneDNN."""
    return images.dtype == torch.float32 and images.device.type == "cpu" and torch._C._has_mkldnn
