"""Small random networks in two halves: what comes before the tapped layer's output, and after it.

``forward`` is the two halves in a row, so that an oracle needs no hook: it calls the halves. All
are float64. ``layer`` names the tapped module; ``grid`` brings its output to (b, c, h, w) by hand.
"""

import torch
from torch import Tensor, nn

CLASSES = 5
SIZE = (16, 24)


class Halves(nn.Module):
    layer = "tapped"
    size = SIZE

    def before(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def after(self, activation: Tensor) -> Tensor:
        raise NotImplementedError

    def grid(self, activation: Tensor) -> Tensor:
        return activation

    def forward(self, images: Tensor):
        return self.after(self.before(images))


class Convolutions(Halves):
    """NCHW: stride 4, batch norm, a ReLU or none behind the tapped layer, pooling, linear."""

    def __init__(self, relu: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.tapped = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.relu = relu or nn.Identity()
        self.last = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, CLASSES)
        with torch.no_grad():  # a channel that is constant over space, and not zero
            self.tapped.weight[1] = 0
            self.tapped.bias[1] = 0.4
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)

    def before(self, images: Tensor) -> Tensor:
        return self.tapped(self.norm(self.stem(images)).tanh())

    def after(self, activation: Tensor) -> Tensor:
        return self.head(self.last(self.relu(activation)).tanh().mean((-2, -1)))


class Pooled(Halves):
    """Global average pooling and a linear layer: Grad-CAM has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.tapped = nn.Conv2d(3, 6, 5, stride=4, padding=2)
        self.head = nn.Linear(6, CLASSES)

    def before(self, images: Tensor) -> Tensor:
        return self.tapped(images)

    def after(self, activation: Tensor) -> Tensor:
        return self.head(activation.mean((-2, -1)))


class ChannelsLast(Halves):
    """NHWC, as Swin has it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.tapped = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 7), nn.GELU())
        self.mix = nn.Linear(7, 6)
        self.head = nn.Linear(6, CLASSES)

    def before(self, images: Tensor) -> Tensor:
        return self.tapped(self.patches(images).permute(0, 2, 3, 1))

    def after(self, activation: Tensor) -> Tensor:
        return self.head(self.mix(activation).tanh().mean((1, 2)))

    def grid(self, activation: Tensor) -> Tensor:
        return activation.permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm(tokens)
        return tokens + self.attn(normed, normed, normed, need_weights=False)[0]


class Tokens(Halves):
    """A small ViT with a class token, which the head reads alone."""

    def __init__(self, *, tells_prefix: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.tapped = Block(8)
        self.last = Block(8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES)
        if tells_prefix:
            self.num_prefix_tokens = 1

    def before(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        return self.tapped(torch.cat([self.token.expand(len(images), -1, -1), patches], 1))

    def after(self, activation: Tensor) -> Tensor:
        return self.head(self.norm(self.last(activation))[:, 0])

    def grid(self, activation: Tensor) -> Tensor:
        height, width = SIZE[0] // 4, SIZE[1] // 4
        rows = [activation[:, 1 + y * width : 1 + (y + 1) * width] for y in range(height)]
        return torch.stack(rows, 2).permute(0, 3, 2, 1)


class Twice(Halves):
    """One module used twice; the last use is tapped, and the first where ``layer`` says so."""

    def __init__(self, call: int = -1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, stride=4)
        self.tapped = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)
        self.call = call
        self.layer = "tapped" if call == -1 else f"tapped#{call}"

    def before(self, images: Tensor) -> Tensor:
        first = self.tapped(self.stem(images).tanh())
        return first if self.call == 0 else self.tapped(first.tanh())

    def after(self, activation: Tensor) -> Tensor:
        last = self.tapped(activation.tanh()) if self.call == 0 else activation
        return self.head(last.relu().mean((-2, -1)))


class PairLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, images: Tensor) -> tuple[Tensor, str]:
        return self.conv(images).tanh(), "aside"


class Several(Halves):
    """A tapped layer that gives a tuple, and a network that gives several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.tapped = PairLayer()
        self.head = nn.Linear(6, CLASSES)
        self.other = nn.Linear(6, 3)

    def before(self, images: Tensor) -> Tensor:
        return self.tapped(images)[0]

    def after(self, activation: Tensor) -> Tensor:
        return self.head(activation.relu().mean((-2, -1)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, _ = self.tapped(images)
        return self.after(features), self.other(features.mean((-2, -1)))


MAKERS = {
    "convolutions": Convolutions,
    "with relu": lambda: Convolutions(nn.ReLU()),
    "with relu in place": lambda: Convolutions(nn.ReLU(inplace=True)),
    "pooled": Pooled,
    "channels last": ChannelsLast,
    "tokens": Tokens,
    "tokens, prefix told": lambda: Tokens(tells_prefix=True),
    "used twice, last": Twice,
    "used twice, first": lambda: Twice(0),
    "several outputs": Several,
}


def make(name: str, seed: int = 0) -> Halves:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MAKERS[name]().double().eval()


def make_images(number: int = 3, seed: int = 1, size: tuple[int, int] = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, 3, *size, generator=generator, dtype=torch.float64)
