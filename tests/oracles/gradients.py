"""Methods of activations and gradients, re-derived from papers: one image, one class, loops."""

import math

import torch
from torch import Tensor

from oracles.maps import mean, weighted
from oracles.networks import Halves

Plane = list[list[float]]


def seen(network: Halves, image: Tensor, target: int) -> tuple[list[Plane], list[Plane]]:
    """The channels of the tapped output, and of the logit's gradient there."""
    activation = network.before(image[None])
    (gradient,) = torch.autograd.grad(network.after(activation.clone())[0, target], activation)
    return network.grid(activation)[0].tolist(), network.grid(gradient)[0].tolist()


def cells(plane: Plane) -> list[tuple[int, int]]:
    return [(y, x) for y in range(len(plane)) for x in range(len(plane[0]))]


def total(plane: Plane) -> float:
    return sum(value for row in plane for value in row)


def by_cell(channels: list[Plane], weights: list[Plane]) -> Plane:
    """The positive part of the sum of channels, each cell with a weight of its own."""
    pairs = list(zip(channels, weights, strict=True))
    return [
        [max(0.0, sum(a[y][x] * w[y][x] for a, w in pairs)) for x in range(len(channels[0][0]))]
        for y in range(len(channels[0]))
    ]


def hirescam(network: Halves, image: Tensor, target: int) -> Plane:
    """Draelos and Carin 2020: the gradient times the activation, summed over channels."""
    return by_cell(*seen(network, image, target))


def elementwise(network: Halves, image: Tensor, target: int) -> Plane:
    """The positive part of each channel's product, summed."""
    channels, slopes = seen(network, image, target)
    out = [[0.0] * len(channels[0][0]) for _ in channels[0]]
    for a, g in zip(channels, slopes, strict=True):
        for y, x in cells(a):
            out[y][x] += max(0.0, a[y][x] * g[y][x])
    return out


def layercam(network: Halves, image: Tensor, target: int) -> Plane:
    """Jiang et al. 2021, equations 6 to 8."""
    channels, slopes = seen(network, image, target)
    return by_cell(channels, [[[max(0.0, v) for v in row] for row in g] for g in slopes])


def xgradcam(network: Halves, image: Tensor, target: int) -> Plane:
    """Fu et al. 2020, equation 8: gradients weighted by the activation's share of its channel."""
    channels, slopes = seen(network, image, target)
    weights = []
    for a, g in zip(channels, slopes, strict=True):
        whole = total(a)
        weights.append(sum(a[y][x] / whole * g[y][x] for y, x in cells(a)) if whole != 0 else 0.0)
    return weighted(weights, channels)


def gradcampp(network: Halves, image: Tensor, target: int) -> Plane:
    """Chattopadhay et al. 2018, equations 5, 7, 10 and 15 with Y = exp(S), divided by exp(S)."""
    channels, slopes = seen(network, image, target)
    weights = []
    for a, g in zip(channels, slopes, strict=True):
        weight = 0.0
        for y, x in cells(a):
            slope = g[y][x]
            below = 2 * slope**2 + total(a) * slope**3
            alpha = slope**2 / below if below != 0 else 0.0
            weight += alpha * max(0.0, slope)
        weights.append(weight)
    return weighted(weights, channels)


def smoothgradcampp(network: Halves, image: Tensor, target: int, *, noise: list[Tensor]) -> Plane:
    """Omeiza et al. 2019: derivatives averaged over noisy images, in Grad-CAM++'s formula."""
    channels, _ = seen(network, image, target)
    looks = [seen(network, image + added, target)[1] for added in noise]
    weights = []
    for k, a in enumerate(channels):
        weight = 0.0
        for y, x in cells(a):
            first, second, third = (
                sum(slopes[k][y][x] ** power for slopes in looks) / len(looks)
                for power in (1, 2, 3)
            )
            below = 2 * second + total(a) * third
            weight += (second / below if below != 0 else 0.0) * max(0.0, first)
        weights.append(weight)
    return weighted(weights, channels)


def shapleycam(network: Halves, image: Tensor, target: int, *, step: float = 1e-5) -> Plane:
    """Cai 2025: the gradient less half the Hessian times the activation, by finite differences."""
    activation = network.before(image[None]).detach()

    def slope(at: Tensor) -> Tensor:
        leaf = at.clone().requires_grad_()
        return torch.autograd.grad(network.after(leaf.clone())[0, target], leaf)[0]

    ahead, behind = slope(activation * (1 + step)), slope(activation * (1 - step))
    product = (ahead - behind) / (2 * step)
    values = network.grid(slope(activation) - product / 2)[0].tolist()
    return weighted([mean(plane) for plane in values], network.grid(activation)[0].tolist())


def eigencam(network: Halves, image: Tensor) -> Plane:
    """Muhammad and Yeasin 2020: activations on their first right singular vector."""
    activation = network.grid(network.before(image[None]).detach())[0]
    rows = activation.flatten(1).T
    _, _, right = torch.linalg.svd(rows, full_matrices=False)
    flat = rows @ right[0]
    if float((flat * rows.sum(1)).sum()) < 0:
        flat = -flat
    return flat.relu().reshape(activation.shape[1:]).tolist()


def fem(network: Halves, image: Tensor, *, deviations: float) -> Plane:
    """Fuad et al. 2020: cells more than k deviations over a channel's mean, weighted by it."""
    channels = network.grid(network.before(image[None]).detach())[0].tolist()
    out = [[0.0] * len(channels[0][0]) for _ in channels[0]]
    for plane in channels:
        middle = mean(plane)
        spread = math.sqrt(mean([[(value - middle) ** 2 for value in row] for row in plane]))
        for y, x in cells(plane):
            if plane[y][x] > middle + deviations * spread:
                out[y][x] += middle
    return [[max(0.0, value) for value in row] for row in out]
