"""Guided backpropagation: a gradient passes a ReLU where it is positive itself.

The rule of Springenberg et al. 2015, arXiv:1412.6806. It is laid where functions of torch are
called, so that it holds for ReLUs that are no modules, and no module is changed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

RELU = {F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class Guidance(TorchFunctionMode):
    """Guides what is recorded while it is entered, and counts the rectifiers that it met."""

    def __init__(self) -> None:
        super().__init__()
        self.rectifiers = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Keep the positive part of the gradient that comes to a rectifier."""
        given = dict(kwargs or {})
        output = func(*args, **given)
        if (func in RELU or _rectifies(func, args, given)) and output.requires_grad:
            output.register_hook(torch.relu)
            self.rectifiers += 1
        return output


def _rectifies(func: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    """Whether it is a hard tanh that begins at zero, which is what a ReLU6 module runs."""
    return func is F.hardtanh and given.get("min_val", args[1] if len(args) > 1 else -1) == 0
