"""How a network is run: in evaluation mode and at full speed, and left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mitate.linears import quick_linears


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and back to the mode it had, whatever happens."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with quick_linears():
            yield
    finally:
        for module in training:
            module.training = True
