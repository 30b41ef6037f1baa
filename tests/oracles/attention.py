"""Attention's methods re-derived slowly, on small networks that lay their probabilities open.

``Attending`` is a small ViT whose attention is computed by hand, so that an oracle gets every
layer's probabilities, in the graph, without a hook. Its twins have the same weights under the same
names and another kernel: ``fused`` (scaled_dot_product_attention), ``module`` (MultiheadAttention)
and ``timm`` (timm's Attention, its weights renamed). ``Windowed`` is the same for Swin's windows.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oracles.networks import CLASSES, SIZE, Halves

WIDTH, HEADS, PATCH = 8, 2, 4
GRID = SIZE[0] // PATCH, SIZE[1] // PATCH


class ByHand(nn.Module):
    """Self-attention that returns its probabilities: (b, heads, queries, keys)."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.randn(3 * WIDTH, WIDTH))
        self.in_proj_bias = nn.Parameter(torch.randn(3 * WIDTH))
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def split(self, tokens: Tensor) -> list[Tensor]:
        mixed = tokens @ self.in_proj_weight.T + self.in_proj_bias
        return [
            part.reshape(*part.shape[:2], HEADS, -1).transpose(1, 2)
            for part in mixed.chunk(3, dim=-1)
        ]

    def joined(self, values: Tensor) -> Tensor:
        return self.out_proj(values.transpose(1, 2).flatten(2))

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        queries, keys, values = self.split(tokens)
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(WIDTH // HEADS)
        powers = (scores if bias is None else scores + bias).exp()
        probabilities = powers / powers.sum(-1, keepdim=True)
        return self.joined(probabilities @ values), probabilities


class Fused(ByHand):
    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> tuple[Tensor, None]:
        queries, keys, values = self.split(tokens)
        return self.joined(F.scaled_dot_product_attention(queries, keys, values, bias)), None


class Module(nn.MultiheadAttention):
    def __init__(self) -> None:
        super().__init__(WIDTH, HEADS, batch_first=True)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> tuple[Tensor, None]:
        if bias is not None:
            bias = bias.expand(len(tokens), HEADS, -1, -1).flatten(0, 1)
        out, _ = super().forward(tokens, tokens, tokens, attn_mask=bias, need_weights=False)
        return out, None


class Timm(nn.Module):
    """timm's own module, whose weights are named qkv and proj; it takes no bias."""

    def __init__(self) -> None:
        super().__init__()
        from mitate import imports

        self.inner = imports.timm("layers").Attention(WIDTH, num_heads=HEADS, qkv_bias=True)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> tuple[Tensor, None]:
        return self.inner(tokens), None


KERNELS = {"by hand": ByHand, "fused": Fused, "module": Module, "timm": Timm}


class Block(nn.Module):
    def __init__(self, kernel: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = KERNELS[kernel]()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 12), nn.GELU(), nn.Linear(12, WIDTH))

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.step(tokens, bias)[0]

    def step(self, tokens: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        attended, probabilities = self.attn(self.norm1(tokens), bias)
        tokens = tokens + attended
        return tokens + self.mlp(self.norm2(tokens)), probabilities


class Attending(Halves):
    """A small ViT: ``prefix`` tokens before the patches, of which the head reads the first.

    With no prefix the head reads the mean of the tokens. ``biased`` adds a learned bias for each
    head, query and key inside the softmax, as CoAtNet has it. The output of block 1 is tapped.
    """

    layer = "blocks.1"

    def __init__(
        self, *, prefix: int = 1, biased: bool = False, depth: int = 3, kernel: str = "by hand"
    ) -> None:
        super().__init__()
        count = prefix + GRID[0] * GRID[1]
        self.prefix = self.num_prefix_tokens = prefix
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.tokens = nn.Parameter(torch.randn(1, prefix, WIDTH))
        self.places = nn.Parameter(torch.randn(1, count, WIDTH))
        self.bias = nn.Parameter(torch.randn(1, HEADS, count, count)) if biased else None
        self.blocks = nn.ModuleList(Block(kernel) for _ in range(depth))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def embed(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        return torch.cat([self.tokens.expand(len(images), -1, -1), patches], 1) + self.places

    def read(self, tokens: Tensor, *, pooled: bool = False) -> Tensor:
        """The logits of tokens: of the first, or of their mean where there is no prefix."""
        if self.prefix and not pooled:
            return self.head(self.norm(tokens)[:, 0])
        if pooled:
            return self.head(self.norm(tokens.mean(1)))
        return self.head(self.norm(tokens).mean(1))

    def before(self, images: Tensor) -> Tensor:
        tokens = self.embed(images)
        for block in self.blocks[:2]:
            tokens = block(tokens, self.bias)
        return tokens

    def after(self, activation: Tensor) -> Tensor:
        for block in self.blocks[2:]:
            activation = block(activation, self.bias)
        return self.read(activation)

    def grid(self, activation: Tensor) -> Tensor:
        height, width = GRID
        rows = [
            activation[:, self.prefix + y * width : self.prefix + (y + 1) * width]
            for y in range(height)
        ]
        return torch.stack(rows, 2).permute(0, 3, 2, 1)

    def layers(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The tokens after each block and its probabilities, in one graph, of one image."""
        tokens, out = self.embed(image[None]), []
        for block in self.blocks:
            tokens, probabilities = block.step(tokens, self.bias)
            out.append((tokens, probabilities))
        return out

    def matrices(self, image: Tensor) -> list[list[list[list[float]]]]:
        """Layer, head, query, key: over all tokens."""
        with torch.no_grad():
            return [probabilities[0].tolist() for _, probabilities in self.layers(image)]


class Windowed(Halves):
    """Swin's two blocks: windows, then windows of the shifted grid; NHWC, mean pooling.

    A grid that the window does not divide is padded with zeros at its end, which are attended to as
    in Swin. Each block's bias (relative positions) lies inside the softmax.
    """

    layer = "blocks.1"

    def __init__(
        self,
        *,
        window: tuple[int, int] = (2, 3),
        shift: tuple[int, int] = (1, 1),
        kernel: str = "by hand",
    ) -> None:
        super().__init__()
        self.window, self.shifts = window, [(0, 0), shift]
        area = window[0] * window[1]
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(Block(kernel) for _ in self.shifts)
        self.biases = nn.ParameterList(torch.randn(HEADS, area, area) for _ in self.shifts)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def before(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).permute(0, 2, 3, 1)
        for index in range(len(self.blocks)):
            tokens, _ = self.step(tokens, index)
        return tokens

    def after(self, activation: Tensor) -> Tensor:
        return self.head(self.norm(activation).mean((1, 2)))

    def grid(self, activation: Tensor) -> Tensor:
        return activation.permute(0, 3, 1, 2)

    def step(self, tokens: Tensor, index: int) -> tuple[Tensor, list[Tensor | None]]:
        """One block: the tokens, and the probabilities of each window (b, heads, area, area)."""
        block, (high, wide) = self.blocks[index], self.window
        normed = block.norm1(tokens)
        normed = torch.roll(normed, [-s for s in self.shifts[index]], (1, 2))
        normed = F.pad(normed, (0, 0, 0, -GRID[1] % wide, 0, -GRID[0] % high))
        attended, probabilities = torch.zeros_like(normed), []
        for corner in corners(self.window):
            rows = slice(corner[0], corner[0] + high)
            columns = slice(corner[1], corner[1] + wide)
            bias = self.biases[index] + self.fences(corner, index)
            out, given = block.attn(normed[:, rows, columns].flatten(1, 2), bias[None])
            attended[:, rows, columns] = out.unflatten(1, self.window)
            probabilities.append(given)
        attended = torch.roll(attended[:, : GRID[0], : GRID[1]], self.shifts[index], (1, 2))
        tokens = tokens + attended
        return tokens + block.mlp(block.norm2(tokens)), probabilities

    def fences(self, corner: tuple[int, int], index: int) -> Tensor:
        """Minus 100 between cells that the shift brought together from two ends, as Swin has it."""
        regions = [region(cell, self.window, self.shifts[index]) for cell in cells(corner, self)]
        return torch.tensor(
            [[0.0 if a == b else -100.0 for b in regions] for a in regions], dtype=torch.float64
        )

    def matrices(self, image: Tensor) -> list[list[list[list[float]]]]:
        """Layer, head, query, key: over the grid's cells, zero between windows."""
        out = []
        with torch.no_grad():
            tokens = self.patches(image[None]).permute(0, 2, 3, 1)
            for index in range(len(self.blocks)):
                tokens, probabilities = self.step(tokens, index)
                windows = [given[0].tolist() for given in probabilities]
                out.append(unwindowed(windows, self, self.shifts[index]))
        return out


class Held(nn.Module):
    """One of ``Windowed``'s blocks as Swin has it: a module, its windows in the batch."""

    def __init__(self, network: Windowed, index: int) -> None:
        super().__init__()
        self.of, self.index = (network,), index  # in a tuple: no module of this one

    def forward(self, tokens: Tensor) -> Tensor:
        (network,), index = self.of, self.index
        block, (high, wide), shift = network.blocks[index], network.window, network.shifts[index]
        x = torch.roll(block.norm1(tokens), [-s for s in shift], (1, 2))
        x = F.pad(x, (0, 0, 0, -GRID[1] % wide, 0, -GRID[0] % high))
        down, across = x.shape[1] // high, x.shape[2] // wide
        x = x.reshape(len(x), down, high, across, wide, WIDTH).transpose(2, 3)
        fences = torch.stack([network.fences(corner, index) for corner in corners(network.window)])
        bias = (network.biases[index] + fences[:, None]).repeat(len(x), 1, 1, 1)
        x = block.attn(x.reshape(-1, high * wide, WIDTH), bias)[0]
        x = (
            x.reshape(-1, down, across, high, wide, WIDTH)
            .transpose(2, 3)
            .flatten(3, 4)
            .flatten(1, 2)
        )
        x = x.reshape(len(tokens), down * high, across * wide, WIDTH)[:, : GRID[0], : GRID[1]]
        tokens = tokens + torch.roll(x, shift, (1, 2))
        return tokens + block.mlp(block.norm2(tokens))


class Partitioned(nn.Module):
    """``Windowed`` with blocks that are modules."""

    def __init__(self, network: Windowed) -> None:
        super().__init__()
        self.patches, self.norm, self.head = network.patches, network.norm, network.head
        self.blocks = nn.ModuleList(Held(network, i) for i in range(len(network.blocks)))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).permute(0, 2, 3, 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens).mean((1, 2)))


def corners(window: tuple[int, int]) -> list[tuple[int, int]]:
    """The first cell of each window of the padded grid, row by row."""
    return [(y, x) for y in range(0, GRID[0], window[0]) for x in range(0, GRID[1], window[1])]


def cells(corner: tuple[int, int], network: Windowed) -> list[tuple[int, int]]:
    """The places of a window's tokens in the padded, shifted grid."""
    high, wide = network.window
    return [(corner[0] + y, corner[1] + x) for y in range(high) for x in range(wide)]


def region(
    cell: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> tuple[int, int]:
    """Which part of the shifted grid a cell is of: before, in the last window, brought round."""
    out = []
    for place, size, side, moved in zip(cell, GRID, window, shift, strict=True):
        padded = math.ceil(size / side) * side
        out.append((place >= padded - side) + (place >= padded - moved) if moved else 0)
    return out[0], out[1]


def unwindowed(
    windows: list[list[list[list[float]]]], network: Windowed, shift: tuple[int, int]
) -> list[list[list[float]]]:
    """The windows' probabilities (window, head, query, key) as one matrix a head over the grid.

    Shifted back, padding dropped (so a row may sum to less than one), zero between windows.
    """
    height, width = GRID
    out = [[[0.0] * (height * width) for _ in range(height * width)] for _ in windows[0]]

    def place(cell: tuple[int, int]) -> int | None:
        if cell[0] >= height or cell[1] >= width:
            return None
        return (cell[0] + shift[0]) % height * width + (cell[1] + shift[1]) % width

    for corner, heads in zip(corners(network.window), windows, strict=True):
        places = [place(cell) for cell in cells(corner, network)]
        for head, matrix in enumerate(heads):
            for query, row in zip(places, matrix, strict=True):
                for key, value in zip(places, row, strict=True):
                    if query is not None and key is not None:
                        out[head][query][key] = value
    return out


def attention(
    network: Attending | Windowed,
    image: Tensor,
    target: int = 0,
    *,
    layer: int = -1,
    head: int | None = None,
    fusion: str = "mean",
) -> list[list[float]]:
    """What one layer's readers look at: one head, or the heads fused. The class plays no part."""
    heads = network.matrices(image)[layer]
    return seen(network, heads[head] if head is not None else fused(heads, fusion))


def rollout(
    network: Attending | Windowed,
    image: Tensor,
    target: int = 0,
    *,
    fusion: str = "mean",
    discard: float = 0.0,
) -> list[list[float]]:
    """Abnar and Zuidema 2020, equation 1: the layers' (A + I) / 2, rows to one, multiplied up.

    ``discard`` zeroes this share of each layer's lowest entries, but for the class token's own.
    """
    rolled = None
    for heads in network.matrices(image):
        matrix = discarded(fused(heads, fusion), discard)
        matrix = [
            [0.5 * value + (0.5 if q == k else 0) for k, value in enumerate(row)]
            for q, row in enumerate(matrix)
        ]
        matrix = [[value / sum(row) for value in row] for row in matrix]
        rolled = matrix if rolled is None else product(matrix, rolled)
    return seen(network, rolled)


def generic(network: Attending, image: Tensor, target: int) -> list[list[float]]:
    """Chefer et al. 2021, equations 5 and 6: R grows by the positive part of gradient x attention.

    Where the head reads the mean of the tokens, so does the map, without R's first identity.
    """
    layers = network.layers(image)
    score = network.read(layers[-1][0])[0, target]
    gradients = torch.autograd.grad(score, [probabilities for _, probabilities in layers])
    count = layers[0][1].shape[-1]
    relevance = [[float(q == k) for k in range(count)] for q in range(count)]
    for (_, probabilities), gradient in zip(layers, gradients, strict=True):
        heads, slopes = probabilities[0].tolist(), gradient[0].tolist()
        matrix = [
            [
                sum(max(0.0, s[q][k] * a[q][k]) for s, a in zip(slopes, heads, strict=True))
                / len(heads)
                for k in range(count)
            ]
            for q in range(count)
        ]
        relevance = added(relevance, product(matrix, relevance))
    if not network.prefix:
        relevance = [
            [value - (q == k) for k, value in enumerate(row)] for q, row in enumerate(relevance)
        ]
    return seen(network, relevance)


def legrad(
    network: Attending,
    image: Tensor,
    target: int,
    *,
    layers: list[int] | None = None,
    pooled: bool = False,
) -> list[list[float]]:
    """Bousselham et al. 2024: the positive gradient of each layer's own score by its attention.

    The layer's tokens go through the network's norm and head: what the head reads (the class
    token), or the mean of all tokens with ``pooled``. Mean over heads and queries, summed over
    ``layers``, all of them by default.
    """
    steps = network.layers(image)
    total = [0.0] * steps[0][1].shape[-1]
    for index in range(len(steps)) if layers is None else layers:
        tokens, probabilities = steps[index]
        score = network.read(tokens, pooled=pooled)[0, target]
        (gradient,) = torch.autograd.grad(score, probabilities, retain_graph=True)
        for head in gradient[0].tolist():
            for row in head:
                for key, value in enumerate(row):
                    total[key] += max(0.0, value) / (len(gradient[0]) * len(row))
    return folded(total[network.prefix :])


def seen(network: Attending | Windowed, matrix: list[list[float]]) -> list[list[float]]:
    """The patches in the class token's row, or in the mean of the rows where there is none."""
    prefix = getattr(network, "prefix", 0)
    row = (
        matrix[0]
        if prefix
        else [sum(line[k] for line in matrix) / len(matrix) for k in range(len(matrix))]
    )
    return folded(row[prefix:])


def folded(row: list[float]) -> list[list[float]]:
    return [row[y * GRID[1] : (y + 1) * GRID[1]] for y in range(GRID[0])]


def fused(heads: list[list[list[float]]], how: str) -> list[list[float]]:
    def fuse(values: list[float]) -> float:
        return {"mean": sum(values) / len(values), "min": min(values), "max": max(values)}[how]

    count = len(heads[0])
    return [[fuse([head[q][k] for head in heads]) for k in range(count)] for q in range(count)]


def discarded(matrix: list[list[float]], share: float) -> list[list[float]]:
    """Without the lowest ``share`` of all entries, rounded down; the very first is kept."""
    values = sorted((value, q, k) for q, row in enumerate(matrix) for k, value in enumerate(row))
    lost = {(q, k) for _, q, k in values[: int(len(values) * share)]} - {(0, 0)}
    return [
        [0.0 if (q, k) in lost else value for k, value in enumerate(row)]
        for q, row in enumerate(matrix)
    ]


def product(left: list[list[float]], right: list[list[float]]) -> list[list[float]]:
    columns = list(zip(*right, strict=True))
    return [[sum(a * b for a, b in zip(row, c, strict=True)) for c in columns] for row in left]


def added(left: list[list[float]], right: list[list[float]]) -> list[list[float]]:
    return [
        [a + b for a, b in zip(one, other, strict=True)]
        for one, other in zip(left, right, strict=True)
    ]


MAKERS = {
    "class token": lambda kernel: Attending(kernel=kernel),
    "class token and registers": lambda kernel: Attending(prefix=3, kernel=kernel),
    "mean of tokens": lambda kernel: Attending(prefix=0, depth=2, kernel=kernel),
    "relative positions": lambda kernel: Attending(prefix=0, biased=True, kernel=kernel),
    "windows": lambda kernel: Windowed(kernel=kernel),
    "windows, padded": lambda kernel: Windowed(window=(3, 3), kernel=kernel),
}


def make(name: str, kernel: str = "by hand", seed: int = 0) -> Attending | Windowed:
    """A network of the name, with the same weights whatever the kernel."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        plain = MAKERS[name]("by hand").double().eval()
    if kernel == "by hand":
        return plain
    twin = MAKERS[name](kernel).double().eval()
    state = plain.state_dict()
    twin.load_state_dict(renamed(state) if kernel == "timm" else state)
    return twin


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under timm's names."""
    for old, new in (
        ("in_proj_weight", "inner.qkv.weight"),
        ("in_proj_bias", "inner.qkv.bias"),
        ("out_proj", "inner.proj"),
    ):
        state = {name.replace(old, new): value for name, value in state.items()}
    return state
