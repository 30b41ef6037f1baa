"""Classifiers and photos that are small enough to train and explain in a test."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mitate.models.architecture import build
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing

MODEL = "convnext_atto"
ARGUMENTS = {
    "depths": [1, 1, 1, 1],
    "dims": [8, 16, 24, 32],
    "norm_layer": "batchnorm2d",
    "ls_init_value": None,
}
NAMES = ("blast", "いもち病", "brown spot")
COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))
SIZE = 64


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread, on which small networks run fastest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def classifier(names: Sequence[str] = NAMES, size: int = SIZE, seed: int = 0) -> Classifier:
    """An untrained ConvNeXt of 60,000 weights, whose maps are not zero."""
    arguments = {**ARGUMENTS, "num_classes": len(names)}
    recipe = {"kind": "timm", "name": MODEL, "arguments": arguments}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(recipe).eval()
        torch.nn.init.normal_(network.head.fc.weight)
    return Classifier(
        network,
        tuple(names),
        Preprocessing(size=(size, size)),
        {"reference": f"timm:{MODEL}"},
        recipe=recipe,
    )


def photo(number: int = 0, size: tuple[int, int] = (40, 30), seed: int = 0) -> Image.Image:
    """Noise in one of four colours."""
    noise = np.random.default_rng([seed, number]).integers(0, 50, (size[1], size[0], 3))
    return Image.fromarray((noise + COLOURS[number % 4]).clip(0, 255).astype(np.uint8))


def marked_photos(folder: Path, numbers: Mapping[str, int], size: int = SIZE) -> Path:
    """Photos with a square in their class's colour on grey noise; masks with the square as 2.

    In ``images`` and ``masks``, in folders of the classes; the leaf around the square is 1.
    """
    for place, (name, number) in enumerate(numbers.items()):
        for index in range(number):
            random = np.random.default_rng([place, index])
            pixels = random.integers(90, 140, (size, size, 3))
            mask = np.ones((size, size), np.uint8)
            top, left = random.integers(0, size - size // 3, 2)
            square = np.s_[top : top + size // 3, left : left + size // 3]
            pixels[square], mask[square] = COLOURS[place % 4], 2
            for kind, values in (("images", pixels.astype(np.uint8)), ("masks", mask)):
                path = folder / kind / name / f"{index:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    return folder


def photos(folder: Path, numbers: Mapping[str, int]) -> Path:
    """Class folders with so many photos; each class has its colour."""
    for place, (name, number) in enumerate(numbers.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            photo(place, seed=index).save(folder / name / f"{index:04}.png")
    return folder
