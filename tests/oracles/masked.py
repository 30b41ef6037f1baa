"""Methods that mask and look again, re-derived from their papers: one image, one class, loops.

What is random (noise, masks) or a choice of picture (a blur, a fill) is handed in as a tensor, so
that a method and its oracle work on the same draws. masked-and-attention.md says where each comes
from.
"""

import math

import torch
from torch import Tensor

from oracles.maps import enlarged, high, low, mean, scaled, softmax, weighted
from oracles.networks import Halves

GAUSSIAN = [[1 / 16, 1 / 8, 1 / 16], [1 / 8, 1 / 4, 1 / 8], [1 / 16, 1 / 8, 1 / 16]]


def sscam(
    network: Halves,
    image: Tensor,
    target: int,
    *,
    noise: Tensor,
    on: str = "activation",
    channel_softmax: bool = False,
) -> list[list[float]]:
    """Wang et al. 2020: Score-CAM's weight is the mean over noisy copies of the mask or the input.

    ``noise`` is what is added, its deviation included: (samples, channels or 1, 1, height, width)
    for ``on="activation"``, with 3 in the place of the last 1 for ``on="input"``.
    """
    channels = grids(network, image)
    live = [k for k, plane in enumerate(channels) if low(plane) < high(plane)]
    rows = []
    for k in live:
        mask = as_mask(channels[k], image)
        total = []
        for sample in noise:
            draw = sample[k % len(sample)]
            seen = image * (mask + draw) if on == "activation" else image * mask + draw
            total.append(logits(network, seen))
        rows.append(total)
    return summed([channels[k] for k in live], rows, target, channel_softmax)


def iscam(
    network: Halves,
    image: Tensor,
    target: int,
    *,
    steps: int = 10,
    cumulative: bool = False,
    channel_softmax: bool = False,
) -> list[list[float]]:
    """Naidu et al. 2020: Score-CAM's weight is the mean score along the path to the masked input.

    The share of the masked input goes 1/N, 2/N ... 1; with ``cumulative`` it is the running sum of
    these, which ends at (N + 1) / 2.
    """
    channels = grids(network, image)
    live = [plane for plane in channels if low(plane) < high(plane)]
    rows = []
    for plane in live:
        masked = image * as_mask(plane, image)
        share, total = 0.0, []
        for step in range(1, steps + 1):
            share = share + step / steps if cumulative else step / steps
            total.append(logits(network, share * masked))
        rows.append(total)
    return summed(live, rows, target, channel_softmax)


def ablationcam(
    network: Halves, image: Tensor, target: int, *, divide: bool = True
) -> list[list[float]]:
    """Desai and Ramaswamy 2020: the fall of the logit where channel k is zero, over its size."""
    with torch.no_grad():
        activation = network.before(image[None])
        channels = network.grid(activation)[0].tolist()
        places = positions(network, activation)
        score = network.after(activation.clone())[0, target].item()
        falls = []
        for k in range(len(channels)):
            ablated = activation.flatten().clone()
            for row in places[k]:
                for place in row:
                    ablated[place] = 0
            left = network.after(ablated.reshape(activation.shape))[0, target].item()
            falls.append(score - left)
    size = abs(score) if divide and score != 0 else 1.0
    return weighted([fall / size for fall in falls], channels)


def ablationcam_pooled(
    network: Halves, image: Tensor, target: int, *, divide: bool = True
) -> list[list[float]]:
    """The closed form for pooling and a linear layer: y - y_k is W_ck times the mean of A_k."""
    channels = grids(network, image)
    row, bias = network.head.weight[target].tolist(), network.head.bias[target].item()
    falls = [w * mean(plane) for w, plane in zip(row, channels, strict=True)]
    size = abs(sum(falls) + bias) if divide else 1.0
    return weighted([fall / size for fall in falls], channels)


def reciprocam(
    network: Halves,
    image: Tensor,
    target: int,
    *,
    gaussian: bool = False,
    spread: bool = False,
    probabilities: bool = True,
    from_zero: bool = True,
) -> list[list[float]]:
    """Byun and Lee 2022: the score of each cell alone; prefix tokens stay (their paper of 2023).

    ``gaussian`` keeps the neighbours too, by a 3x3 kernel that the edge cuts; ``spread`` puts the
    cell's own features there instead of the neighbours'. ``from_zero`` takes the lowest cell off.
    """
    kernel = GAUSSIAN if gaussian else [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    with torch.no_grad():
        activation = network.before(image[None])
        places = positions(network, activation)
        values = activation.flatten().tolist()
        height, width = len(places[0]), len(places[0][0])
        out = []
        for y in range(height):
            row = []
            for x in range(width):
                masked = activation.flatten().clone()
                for channel in places:
                    for i in range(height):
                        for j in range(width):
                            near = abs(i - y) <= 1 and abs(j - x) <= 1
                            share = kernel[i - y + 1][j - x + 1] if near else 0
                            source = channel[y][x] if spread else channel[i][j]
                            masked[channel[i][j]] = share * values[source]
                scores = network.after(masked.reshape(activation.shape))[0].tolist()
                row.append((softmax(scores) if probabilities else scores)[target])
            out.append(row)
    return lowered(out) if from_zero else out


def groupcam(
    network: Halves,
    image: Tensor,
    target: int,
    *,
    blurred: Tensor,
    groups: int = 32,
    percentile: float = 70,
) -> list[list[float]]:
    """Zhang et al. 2021: groups of Grad-CAM's terms are the masks, over a blurred image."""
    activation = network.before(image[None])
    (gradient,) = torch.autograd.grad(network.after(activation.clone())[0, target], activation)
    channels = network.grid(activation)[0].tolist()
    slopes = [mean(plane) for plane in network.grid(gradient)[0].tolist()]
    size = math.ceil(len(channels) / groups)
    nothing = softmax(logits(network, blurred))[target]
    gains, masks = [], []
    for start in range(0, len(channels), size):
        chosen = slice(start, start + size)
        group = denoised(weighted(slopes[chosen], channels[chosen]), percentile)
        large = enlarged(group, *image.shape[-2:])
        bottom, top = low(large), high(large)
        if bottom == top:
            continue
        mask = torch.tensor(scaled(large), dtype=image.dtype)
        seen = image * mask + blurred * (1 - mask)
        gains.append(softmax(logits(network, seen))[target] - nothing)
        masks.append([[(value - bottom) / (top - bottom) for value in row] for row in group])
    return weighted(gains, masks) if masks else nowhere(channels[0])


def rise(
    network: Halves, image: Tensor, target: int, *, masks: Tensor, keep: float
) -> list[list[float]]:
    """Petsiuk et al. 2018, equation 6: the mean of the masks by score, over the expected mask.

    ``masks`` are (masks, height, width) of the image; the map is on the image's pixels.
    """
    scores = [softmax(logits(network, image * mask))[target] for mask in masks]
    planes = masks.tolist()
    return [
        [
            sum(score * plane[y][x] for score, plane in zip(scores, planes, strict=True))
            / (len(planes) * keep)
            for x in range(image.shape[2])
        ]
        for y in range(image.shape[1])
    ]


def rise_mask(
    cells: list[list[float]], shift: tuple[int, int], height: int, width: int
) -> list[list[float]]:
    """Section 3.2 of RISE: h x w cells enlarged to (h + 1) x (w + 1) cells' pixels, then cut."""
    tall, wide = math.ceil(height / len(cells)), math.ceil(width / len(cells[0]))
    large = enlarged(cells, (len(cells) + 1) * tall, (len(cells[0]) + 1) * wide)
    return [[large[shift[0] + y][shift[1] + x] for x in range(width)] for y in range(height)]


def occlusion(
    network: Halves,
    image: Tensor,
    target: int,
    *,
    window: tuple[int, int],
    stride: tuple[int, int],
    fill: Tensor,
    probabilities: bool = True,
) -> list[list[float]]:
    """Zeiler and Fergus 2014, section 4.2: each pixel's mean fall over the windows that cover it.

    Signed, on the image's pixels. ``fill`` is a picture of the image's shape.
    """
    height, width = image.shape[-2:]
    falls = occlusion_windows(
        network,
        image,
        target,
        window=window,
        stride=stride,
        fill=fill,
        probabilities=probabilities,
    )
    out = []
    for y in range(height):
        row = []
        for x in range(width):
            over = [
                falls[i][j]
                for i in range(len(falls))
                for j in range(len(falls[0]))
                if 0 <= y - i * stride[0] < window[0] and 0 <= x - j * stride[1] < window[1]
            ]
            row.append(sum(over) / len(over) if over else 0.0)
        out.append(row)
    return out


def occlusion_windows(
    network: Halves,
    image: Tensor,
    target: int,
    *,
    window: tuple[int, int],
    stride: tuple[int, int],
    fill: Tensor,
    probabilities: bool = True,
) -> list[list[float]]:
    """The fall of the score for each window; the last of a row or column may cross the edge."""

    def score(seen: Tensor) -> float:
        values = logits(network, seen)
        return (softmax(values) if probabilities else values)[target]

    height, width = image.shape[-2:]
    down = math.ceil((height - window[0]) / stride[0]) + 1
    across = math.ceil((width - window[1]) / stride[1]) + 1
    whole = score(image)
    out = []
    for i in range(down):
        row = []
        for j in range(across):
            hidden = image.clone()
            for y in range(i * stride[0], min(i * stride[0] + window[0], height)):
                for x in range(j * stride[1], min(j * stride[1] + window[1], width)):
                    hidden[:, y, x] = fill[:, y, x]
            row.append(whole - score(hidden))
        out.append(row)
    return out


def blurred(image: Tensor, size: int, sigma: float) -> Tensor:
    """A Gaussian of ``size`` x ``size`` pixels; beyond the edge the picture is reflected."""
    half = size // 2
    kernel = [math.exp(-((d - half) ** 2) / (2 * sigma**2)) for d in range(size)]
    kernel = [value / sum(kernel) for value in kernel]

    def inside(place: int, pixels: int) -> int:
        place = abs(place)
        return 2 * (pixels - 1) - place if place >= pixels else place

    def along(line: list[float]) -> list[float]:
        return [
            sum(w * line[inside(p + d - half, len(line))] for d, w in enumerate(kernel))
            for p in range(len(line))
        ]

    planes = []
    for plane in image.tolist():
        rows = [along(row) for row in plane]
        columns = [along(list(column)) for column in zip(*rows, strict=True)]
        planes.append([list(row) for row in zip(*columns, strict=True)])
    return torch.tensor(planes, dtype=image.dtype)


def averaged(plane: list[list[float]], height: int, width: int) -> list[list[float]]:
    """The mean of the pixels of each cell, for a map of pixels that is wanted on a grid."""

    def cell(i: int, j: int) -> float:
        down = range(i * len(plane) // height, -(-(i + 1) * len(plane) // height))
        across = range(j * len(plane[0]) // width, -(-(j + 1) * len(plane[0]) // width))
        return mean([[plane[y][x] for x in across] for y in down])

    return [[cell(i, j) for j in range(width)] for i in range(height)]


def summed(
    channels: list[list[list[float]]],
    rows: list[list[list[float]]],
    target: int,
    channel_softmax: bool,
) -> list[list[float]]:
    """Channels by the mean score of their looks; ``rows`` are logits: channel, look, class."""
    if channel_softmax:
        weights = softmax([mean([[row[target] for row in looks]]) for looks in rows])
    else:
        weights = [mean([[softmax(row)[target] for row in looks]]) for looks in rows]
    return weighted(weights, channels)


def denoised(plane: list[list[float]], percentile: float) -> list[list[float]]:
    """Zero at and under the percentile, which lies on the line between two neighbours."""
    values = sorted(value for row in plane for value in row)
    place = percentile / 100 * (len(values) - 1)
    below, above = values[math.floor(place)], values[math.ceil(place)]
    limit = below + (place % 1) * (above - below)
    return [[value if value > limit else 0.0 for value in row] for row in plane]


def positions(network: Halves, activation: Tensor) -> list[list[list[int]]]:
    """Where each channel and cell of the grid lies in the flattened activation."""
    numbers = torch.arange(activation.numel()).reshape(activation.shape)
    return network.grid(numbers)[0].tolist()


def grids(network: Halves, image: Tensor) -> list[list[list[float]]]:
    with torch.no_grad():
        return network.grid(network.before(image[None]))[0].tolist()


def logits(network: Halves, image: Tensor) -> list[float]:
    with torch.no_grad():
        return network.after(network.before(image[None]))[0].tolist()


def as_mask(plane: list[list[float]], image: Tensor) -> Tensor:
    return torch.tensor(scaled(enlarged(plane, *image.shape[-2:])), dtype=image.dtype)


def lowered(plane: list[list[float]]) -> list[list[float]]:
    bottom = low(plane)
    return [[value - bottom for value in row] for row in plane]


def nowhere(plane: list[list[float]]) -> list[list[float]]:
    return [[0.0 for _ in row] for row in plane]
