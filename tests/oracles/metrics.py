"""Metrics re-derived from their papers, slowly and plainly: one image, one map, loops."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Plane = list[list[float]]


class Linear(nn.Module):
    """Logits that are weighted sums of the pixels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bcyx,kcyx->bk", images, self.weights)


def made(classes: int = 3, channels: int = 3, size=(4, 5), seed: int = 0) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(classes, channels, *size, generator=generator, dtype=torch.float64)
    return Linear(0.3 * weights)


def order(plane: Plane, ties: Sequence[int]) -> list[int]:
    """Pixels from the most relevant; equal ones by their place in ``ties``."""
    values = [value for row in plane for value in row]
    return sorted(range(len(values)), key=lambda pixel: (-values[pixel], ties[pixel]))


def removal_curve(
    likely: Callable[[Tensor], float],
    image: Tensor,
    behind: Tensor,
    pixels: Sequence[int],
    fractions: Sequence[float],
) -> list[float]:
    """The class's probability when the first pixels of a list are replaced."""
    found = []
    for fraction in fractions:
        altered = image.clone().flatten(1)
        for pixel in pixels[: round(fraction * len(pixels))]:
            altered[:, pixel] = behind.flatten(1)[:, pixel]
        found.append(likely(altered.reshape(image.shape)))
    return found


def trapezoids(heights: Sequence[float], places: Sequence[float]) -> float:
    area = 0.0
    for left in range(len(heights) - 1):
        width = places[left + 1] - places[left]
        area += width * (heights[left] + heights[left + 1]) / 2
    return area / (places[-1] - places[0])


def imputed(image: Tensor, missing: Tensor) -> Tensor:
    """Rong et al. 2022, section 4.2: one equation a missing pixel, solved densely."""
    height, width = missing.shape
    holes = [(y, x) for y in range(height) for x in range(width) if missing[y, x]]
    number = {place: index for index, place in enumerate(holes)}
    left = torch.zeros(len(holes), len(holes), dtype=torch.float64)
    right = torch.zeros(len(holes), image.shape[0], dtype=torch.float64)
    for (y, x), row in number.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                near = (y + down, x + across)
                inside = 0 <= near[0] < height and 0 <= near[1] < width
                if not inside or near == (y, x):
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                left[row, row] += weight
                if near in number:
                    left[row, number[near]] -= weight
                else:
                    right[row] += weight * image[:, near[0], near[1]].double()
    solved = torch.linalg.solve(left, right)
    result = image.double().clone()
    for (y, x), row in number.items():
        result[:, y, x] = solved[row]
    return result


def gini(plane: Plane) -> float:
    """Half the mean difference of two values, over their mean."""
    values = [abs(value) for row in plane for value in row]
    differences = sum(abs(one - two) for one in values for two in values)
    return differences / (2 * len(values) * sum(values))


def entropy(plane: Plane) -> float:
    values = [abs(value) for row in plane for value in row]
    shares = [value / sum(values) for value in values]
    return -sum(share * math.log(share) for share in shares if share)


def correlation(one: Sequence[float], two: Sequence[float]) -> float:
    first, second = sum(one) / len(one), sum(two) / len(two)
    product = sum((a - first) * (b - second) for a, b in zip(one, two, strict=True))
    sizes = sum((a - first) ** 2 for a in one) * sum((b - second) ** 2 for b in two)
    return product / math.sqrt(sizes)


def rank_accuracy(plane: Plane, hits: list[list[bool]]) -> float:
    values = sorted(
        (
            (v, h)
            for row, marks in zip(plane, hits, strict=True)
            for v, h in zip(row, marks, strict=True)
        ),
        key=lambda pair: -pair[0],
    )
    size = sum(hit for _, hit in values)
    return sum(hit for _, hit in values[:size]) / size


def best_iou(plane: Plane, hits: list[list[bool]]) -> float:
    places = [(y, x) for y in range(len(plane)) for x in range(len(plane[0]))]
    best = 0.0
    for threshold in {value for row in plane for value in row}:
        over = {(y, x) for y, x in places if plane[y][x] >= threshold}
        true = {(y, x) for y, x in places if hits[y][x]}
        best = max(best, len(over & true) / len(over | true))
    return best
