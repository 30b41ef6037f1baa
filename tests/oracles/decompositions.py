"""Kernel principal components and concepts, one image at a time."""

import math

import torch
from torch import Tensor

from oracles.gradients import Plane, seen
from oracles.networks import Halves


def kpcacam(network: Halves, image: Tensor, *, kernel: str, gamma: float) -> Plane:
    """Karmani et al. 2024: cells along the first component of the centred kernel, in loops."""
    activation = network.grid(network.before(image[None]).detach())[0]
    rows = activation.flatten(1).T.tolist()
    middle = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    points = [[value - m for value, m in zip(row, middle, strict=True)] for row in rows]

    def alike(a: list[float], b: list[float]) -> float:
        product = sum(x * y for x, y in zip(a, b, strict=True))
        distance = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
        return {
            "sigmoid": math.tanh(gamma * product + 1),
            "rbf": math.exp(-gamma * distance),
            "poly": (gamma * product + 1) ** 3,
            "linear": product,
        }[kernel]

    table = torch.tensor([[alike(a, b) for b in points] for a in points], dtype=torch.float64)
    centring = torch.eye(len(points), dtype=torch.float64) - 1 / len(points)
    values, vectors = torch.linalg.eigh(centring @ table @ centring)
    flat = values[-1].clamp(min=0).sqrt() * vectors[:, -1]
    sums = torch.tensor([sum(point) for point in points], dtype=torch.float64)
    flat = -flat if float(flat @ sums) < 0 else flat
    return flat.relu().reshape(activation.shape[1:]).tolist()


def dff(network: Halves, image: Tensor, target: int, planes: Tensor) -> int:
    """Collins et al. 2018: which of an image's concept maps adds most to a class, cell by cell.

    Directions are the best non-negative ones for the maps, a channel at a time.
    """
    from scipy.optimize import nnls

    channels, slopes = (
        torch.tensor(found, dtype=torch.float64) for found in seen(network, image, target)
    )
    raised = channels - channels.amin((1, 2), keepdim=True).clamp(max=0)
    maps = planes.flatten(1).T.numpy()
    directions = [nnls(maps, channel.flatten().numpy())[0] for channel in raised]
    added = [0.0] * len(planes)
    for j, plane in enumerate(planes):
        for slope, direction in zip(slopes, directions, strict=True):
            added[j] += float((slope * plane).sum()) * direction[j]
    return added.index(max(added))
