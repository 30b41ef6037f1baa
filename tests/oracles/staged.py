"""A small network of two stages that are tapped at once."""

import torch
from torch import Tensor, nn

from oracles import networks


class Closed(nn.Module):
    """Gives no gradient to what lies before it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, batch: Tensor) -> Tensor:
        return self.inner(batch.detach())


class Rounded(nn.Module):
    """Sees its images in steps, which have no slope."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, batch: Tensor) -> Tensor:
        return self.inner((20 * batch).round() / 20)


class Stages(networks.Halves):
    """Two stages, of strides 4 and 16, and a head; smooth, so that differences give slopes."""

    layer = "fine + coarse"

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 5, 5, stride=4, padding=2), nn.Softplus())
        self.coarse = nn.Sequential(nn.Conv2d(5, 6, 5, stride=4, padding=2), nn.Softplus())
        self.head = nn.Linear(6, networks.CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.coarse(self.fine(images)).mean((-2, -1)))


def stages(sure: float = 1.0, seed: int = 3) -> Stages:
    """One with random weights; the scores are so many times as far apart."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Stages().double().eval()
    with torch.no_grad():
        network.head.weight.mul_(sure)
    return network
