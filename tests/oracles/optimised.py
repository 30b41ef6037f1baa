"""The optimised mask, slowly and plainly: one image, one class, loops; slopes by differences."""

import math

import torch
from torch import Tensor, nn

from oracles.maps import enlarged

Plane = list[list[float]]
STEP = 1e-6


def soft_plus(value: float) -> float:
    return math.log(1 + math.exp(value))


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def odds(network: nn.Module, picture: Tensor, target: int) -> float:
    with torch.no_grad():
        scores = [math.exp(score) for score in network(picture[None])[0].tolist()]
    return math.log(scores[target] / (sum(scores) - scores[target]))


def standing(network: nn.Module, picture: Tensor, image: Tensor, target: int) -> float:
    """Log-odds; where p is under a half, 1 - 2 p of what they do is what the own logit does."""
    with torch.no_grad():
        scores, whole = network(picture[None])[0].tolist(), network(image[None])[0].tolist()
    own = scores[target] - sum(scores) / len(scores) - whole[target] + sum(whole) / len(whole)
    before = odds(network, image, target)
    rivals = min(1.0, 2 * logistic(before))
    return rivals * odds(network, picture, target) + (1 - rivals) * (before + own)


def hidden_share(value: float, level: float) -> float:
    """The soft level set: a logistic edge of width 0.1, stretched so that 0 and 1 stay."""
    low, high = logistic(-level / 0.1), logistic((1 - level) / 0.1)
    return (logistic((value - level) / 0.1) - low) / (high - low)


def loss(
    network: nn.Module,
    image: Tensor,
    target: int,
    mask: Plane,
    *,
    behind: Tensor,
    level: float,
    price: float,
    shows: bool = False,
) -> float:
    """What hiding leaves of the class, as a share of what there was, and the price of the area.

    Where the mask shows, the share is of what is seen, and it is wanted: it counts less.
    """
    pixels = enlarged(mask, *image.shape[-2:])
    shares = [[hidden_share(v, level) for v in row] for row in pixels]
    gone = torch.tensor(shares, dtype=torch.float64)
    kept = gone if shows else 1 - gone
    seen = standing(network, image * kept + behind * (1 - kept), image, target)
    whole = standing(network, image, image, target)
    area = sum(sum(row) for row in mask) / (len(mask) * len(mask[0]))
    share = soft_plus(seen + 2) / soft_plus(whole + 2)
    if not shows:
        return share + price * area
    return (-share if share < 1 else -1 - math.log(share)) + price * area


def slopes(network: nn.Module, image: Tensor, target: int, mask: Plane, **how) -> Plane:
    """Central differences, cell by cell."""

    def moved(y: int, x: int, by: float) -> Plane:
        return [
            [v + by * (i == y and j == x) for j, v in enumerate(row)] for i, row in enumerate(mask)
        ]

    def slope(y: int, x: int) -> float:
        more, less = (loss(network, image, target, moved(y, x, by), **how) for by in (STEP, -STEP))
        return (more - less) / (2 * STEP)

    return [[slope(y, x) for x in range(len(mask[0]))] for y in range(len(mask))]


def smoothed(plane: Plane) -> Plane:
    """Weights of 1 2 1 along each axis, over 16; beyond the edge the edge is repeated."""
    rows, columns = len(plane), len(plane[0])

    def at(y: int, x: int) -> float:
        return plane[min(max(y, 0), rows - 1)][min(max(x, 0), columns - 1)]

    bell = {-1: 1, 0: 2, 1: 1}
    return [
        [
            sum(bell[i] * bell[j] * at(y + i, x + j) for i in bell for j in bell) / 16
            for x in range(columns)
        ]
        for y in range(rows)
    ]


def loupe(
    network: nn.Module,
    image: Tensor,
    target: int,
    *,
    start: Plane,
    blurred: Tensor,
    colour: Tensor,
    steps: int,
) -> Plane:
    """Every step in turn; the mean mask to the fourth, and a millionth of what is near it."""
    mask = [[0.5 * value for value in row] for row in start]
    momentum = [[0.0 for _ in row] for row in start]
    kept: list[Plane] = []
    for step in range(steps):
        price = 2 * 80 ** (step / max(1, steps - 1))
        level = 0.1 + 0.8 * ((0.5 + step * (math.sqrt(5) - 1) / 2) % 1)
        odd = step % 2 == 1
        how = {"behind": colour if odd else blurred, "shows": odd and step >= steps / 3}
        found = smoothed(slopes(network, image, target, mask, level=level, price=price, **how))
        momentum = [
            [0.8 * m + 0.2 * g for m, g in zip(*rows, strict=True)]
            for rows in zip(momentum, found, strict=True)
        ]
        steepest = max(abs(m) for row in momentum for m in row)
        mask = [
            [min(1.0, max(0.0, v - 0.2 * m / steepest)) for v, m in zip(*rows, strict=True)]
            for rows in zip(mask, momentum, strict=True)
        ]
        if step >= steps // 6:
            kept.append(mask)
    found_any = any(value > 0 for mask in kept for row in mask for value in row)
    tail = 1e-6 if found_any else 0.0
    rows, columns = range(len(start)), range(len(start[0]))
    mean = [[sum(mask[y][x] for mask in kept) / len(kept) for x in columns] for y in rows]
    near = under_a_bell([[value**4 for value in row] for row in mean])
    rest = [[tail * (near[y][x] + 1e-6) * (start[y][x] + 1e-6) for x in columns] for y in rows]
    size = image.shape[-2:]
    return [
        [value**4 + left for value, left in zip(*both, strict=True)]
        for both in zip(enlarged(mean, *size), enlarged(rest, *size), strict=True)
    ]


def under_a_bell(plane: Plane) -> Plane:
    """Each cell's sum of all, by their distance; the deviation is an eighth of the short side."""
    places = [(y, x) for y in range(len(plane)) for x in range(len(plane[0]))]
    double = 2 * (min(len(plane), len(plane[0])) / 8) ** 2
    sums = [
        [
            sum(plane[b][a] * math.exp(-((b - y) ** 2 + (a - x) ** 2) / double) for b, a in places)
            for x in range(len(plane[0]))
        ]
        for y in range(len(plane))
    ]
    highest = max(max(row) for row in sums)
    return [[value / highest if highest > 0 else 0.0 for value in row] for row in sums]
