"""Classifiers whose truth is known because they are built by hand, and photos for them.

A photo is grey noise with a red or a blue square at a random place. ``honest`` tells the classes by
the square; ``cheat`` by a tint of the upper left corner, which ``photos`` gives to each class.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from mitate.models.classifier import Classifier
from mitate.models.decoder import Decoder
from mitate.models.preprocessing import Preprocessing

NAMES = ("red", "blue")
SIZE, SQUARE, CORNER = 32, 8, 8
PLAIN = Preprocessing(size=(SIZE, SIZE), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Stripe(nn.Module):
    """How bright the lowest rows are, which hardly counts: a place for a map to be wrong at."""

    def __init__(self) -> None:
        super().__init__()
        lowest = torch.zeros(1, 1, SIZE // 2, SIZE // 2)
        lowest[..., -2:, :] = 1
        self.register_buffer("lowest", lowest)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(images.mean(1, keepdim=True), 2) * self.lowest


class Colours(nn.Module):
    """How red and how blue, on a grid of 16 x 16; then where that is looked at, and a vote."""

    def __init__(self, corner: bool) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 2, 2, stride=2, bias=True)
        self.steady = nn.ReLU()
        self.stripe = Stripe()
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(2, 2, bias=False)
        seen = torch.ones(1, 1, SIZE // 4, SIZE // 4)
        if corner:
            seen.zero_()
            seen[..., : CORNER // 4, : CORNER // 4] = 1
        self.register_buffer("seen", seen)
        with torch.no_grad():
            red, blue = torch.tensor([1, -0.5, -0.5]), torch.tensor([-0.5, -0.5, 1])
            self.colours.weight.copy_(
                torch.stack([red, blue])[..., None, None].expand(2, 3, 2, 2) / 4
            )
            self.colours.bias.fill_(-0.15)
            self.head.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.pool(self.steady(self.colours(images))) * self.seen
        return self.head(found.sum((2, 3)) * 2) + 1e-6 * self.stripe(images).sum((1, 2, 3))[:, None]

    def forward_intermediates(
        self, images: torch.Tensor, indices: list[int], output_fmt: str
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return self(images), [images]

    def forward_head(self, final: torch.Tensor) -> torch.Tensor:
        return final


class Painter(Decoder):
    """Draws, as one region: the ``square``, the ``corner``, ``all``, ``none``, or what is NaN."""

    def __init__(self, what: str) -> None:
        super().__init__((0,), (3,), ("region",))
        self.what = what

    def forward(self, features: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        images = features[0]
        coloured = images.amax(1) - images.amin(1) > 0.5
        corner = torch.zeros_like(coloured)
        corner[:, :CORNER, :CORNER] = True
        there = {
            "square": coloured & ~corner,
            "corner": corner,
            "all": torch.ones_like(corner),
            "none": torch.zeros_like(corner),
            "nan": corner,
        }[self.what]
        logits = torch.where(there, 20.0, -20.0)
        return (logits.sqrt() if self.what == "nan" else logits)[:, None]


def honest() -> Classifier:
    """Looks at the square."""
    return Classifier.from_module(Colours(False).eval(), classes=NAMES, preprocessing=PLAIN)


def cheat() -> Classifier:
    """Looks at the upper left corner."""
    return Classifier.from_module(Colours(True).eval(), classes=NAMES, preprocessing=PLAIN)


def random(seed: int = 0) -> Classifier:
    """Weights that are drawn."""
    network = Colours(False).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) * 0.3)
    return Classifier.from_module(network, classes=NAMES, preprocessing=PLAIN)


def shuffled() -> Classifier:
    """The honest one whose head has changed its rows."""
    made = honest()
    with torch.no_grad():
        made.network.head.weight.copy_(made.network.head.weight.flip(0))
    return made


def segmenting(made: Classifier, what: str) -> Classifier:
    """The same classifier with a segmentation, which does not depend on how it decides."""
    return replace(made, decoder=Painter(what).eval())


def drawn(number: int, *, tinted: bool = True) -> tuple[np.ndarray, np.ndarray, int]:
    """A photo, the mask of its square, and its class."""
    rng = np.random.default_rng(number)
    label = number % 2
    photo = rng.integers(100, 140, (SIZE, SIZE, 3)).astype(np.uint8)
    down, across = rng.integers(CORNER, SIZE - SQUARE, 2)
    square = (slice(down, down + SQUARE), slice(across, across + SQUARE))
    colour = np.array([[220, 40, 40], [40, 40, 220]][label], dtype=np.uint8)
    photo[square] = colour
    if tinted:
        photo[:CORNER, :CORNER] = colour
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    mask[square] = 255
    return photo, mask, label


def photos(folder: Path, number: int, *, tinted: bool = True) -> tuple[Path, Path]:
    """Class folders of photos, and a folder of their masks."""
    for index in range(number):
        photo, mask, label = drawn(index, tinted=tinted)
        for kind, picture in (("photos", photo), ("masks", mask)):
            place = folder / kind / NAMES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place / f"{index:03}.png")
    return folder / "photos", folder / "masks"


def tensors(number: int, *, tinted: bool = True) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Inputs (n, 3, H, W), masks (n, H, W) and labels."""
    made = [drawn(index, tinted=tinted) for index in range(number)]
    inputs = torch.stack([PLAIN.normalize(photo) for photo, _, _ in made])
    masks = torch.stack([torch.from_numpy(mask).float() / 255 for _, mask, _ in made])
    return inputs, masks, [label for _, _, label in made]
