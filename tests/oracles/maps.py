"""Methods re-derived from their papers, slowly and plainly: one image, one class, loops."""

import math

import torch
from torch import Tensor

from oracles.networks import Halves


def gradcam(network: Halves, image: Tensor, target: int) -> list[list[float]]:
    """Selvaraju et al. 2017, equations 1 and 2."""
    activation = network.before(image[None])
    logits = network.after(activation.clone())
    (gradient,) = torch.autograd.grad(logits[0, target], activation)
    channels = network.grid(activation)[0].tolist()
    slopes = network.grid(gradient)[0].tolist()
    weights = [mean(plane) for plane in slopes]
    return weighted(weights, channels)


def scorecam(
    network: Halves, image: Tensor, target: int, *, channel_softmax: bool = False
) -> list[list[float]]:
    """Wang et al. 2020, algorithm 1 as the authors' code has it: no baseline, softmax scores."""
    with torch.no_grad():
        channels = network.grid(network.before(image[None]))[0].tolist()
        live = [plane for plane in channels if low(plane) < high(plane)]
        logits = []
        for plane in live:
            mask = scaled(enlarged(plane, *image.shape[-2:]))
            masked = image * torch.tensor(mask, dtype=image.dtype)
            logits.append(network.after(network.before(masked[None]))[0].tolist())
    if channel_softmax:
        weights = softmax([row[target] for row in logits])
    else:
        weights = [softmax(row)[target] for row in logits]
    return weighted(weights, live)


def centre(height: int, width: int, sigma: float = 0.25) -> list[list[float]]:
    return [
        [
            math.exp(-(((y + 0.5) / height - 0.5) ** 2) / (2 * sigma**2))
            * math.exp(-(((x + 0.5) / width - 0.5) ** 2) / (2 * sigma**2))
            for x in range(width)
        ]
        for y in range(height)
    ]


def edges(image: Tensor, height: int, width: int) -> list[list[float]]:
    """The length of Sobel's gradient of the mean channel, averaged over each cell."""
    grey = [
        [mean([image[:, y, x].tolist()]) for x in range(image.shape[2])]
        for y in range(image.shape[1])
    ]
    rows, columns = len(grey), len(grey[0])

    def at(y: int, x: int) -> float:
        return grey[min(max(y, 0), rows - 1)][min(max(x, 0), columns - 1)]

    def strength(y: int, x: int) -> float:
        across = sum(
            w * (at(y + d, x + 1) - at(y + d, x - 1)) for d, w in ((-1, 1), (0, 2), (1, 1))
        )
        down = sum(w * (at(y + 1, x + d) - at(y - 1, x + d)) for d, w in ((-1, 1), (0, 2), (1, 1)))
        return math.hypot(across / 8, down / 8)

    def cell(i: int, j: int) -> float:
        down = range(i * rows // height, -(-(i + 1) * rows // height))
        across = range(j * columns // width, -(-(j + 1) * columns // width))
        return mean([[strength(y, x) for x in across] for y in down])

    return [[cell(i, j) for j in range(width)] for i in range(height)]


def weighted(weights: list[float], channels: list[list[list[float]]]) -> list[list[float]]:
    """The positive part of the weighted sum of channels."""
    height, width = len(channels[0]), len(channels[0][0])
    return [
        [
            max(0.0, sum(w * c[y][x] for w, c in zip(weights, channels, strict=True)))
            for x in range(width)
        ]
        for y in range(height)
    ]


def enlarged(plane: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Bilinear, with pixel centres at halves and the edge repeated beyond the outermost ones."""

    def corners(place: int, cells: int, pixels: int) -> tuple[int, int, float]:
        centre = max((place + 0.5) * cells / pixels - 0.5, 0.0)
        first = min(int(centre), cells - 1)
        return first, min(first + 1, cells - 1), centre - first

    out = []
    for y in range(height):
        top, bottom, v = corners(y, len(plane), height)
        row = []
        for x in range(width):
            left, right, u = corners(x, len(plane[0]), width)
            upper = (1 - u) * plane[top][left] + u * plane[top][right]
            lower = (1 - u) * plane[bottom][left] + u * plane[bottom][right]
            row.append((1 - v) * upper + v * lower)
        out.append(row)
    return out


def scaled(plane: list[list[float]]) -> list[list[float]]:
    bottom, top = low(plane), high(plane)
    return [[(value - bottom) / (top - bottom) for value in row] for row in plane]


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def mean(plane: list[list[float]]) -> float:
    values = [value for row in plane for value in row]
    return sum(values) / len(values)


def low(plane: list[list[float]]) -> float:
    return min(min(row) for row in plane)


def high(plane: list[list[float]]) -> float:
    return max(max(row) for row in plane)
