"""A small ConvNeXt of ImageNet's classes, where no weights of a trained one are at hand.

python -m benchmarks.distilling OUT [--steps N]

It learns to answer as an ImageNet MobileNetV2 does to parts of pictures, without labels (Hinton et
al. 2015, arXiv:1503.02531): half of each batch are parts of the sample photos, the rest of the
training photos of leaves and tiles. So it knows ImageNet's classes on these photos, and only there:
it is judged on photos that it was taught with. It is taught twice, the second time from what it
learned the first.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mitate import Classifier
from mitate.data.dataset import read_dataset
from mitate.data.decoding import read_image
from mitate.demo import ARGUMENTS, MODEL
from mitate.models.preprocessing import Preprocessing
from mitate.progress import progress
from mitate.training.start import SCRATCH, start

SHARED = Path("../shared")
WEIGHTS = SHARED / "weights" / "mobilenetv2_100.imagenet1k.safetensors"
PHOTOS = SHARED / "photos" / "imagenet_sample"
FOLDERS = ("coffee_leaf/index.csv", "magnetic_tile/index.csv", "tomato10")
SIDE = 160  # pixels of a sample photo, as the taught network sees it
BATCH, STEPS, RATE = 32, 1500, 4e-3
LEAST, TEMPERATURE = 0.25, 2.0  # share of a picture in a part; how soft the answers are made
KEPT = 256  # pixels of a picture's shorter side that are kept in memory
Pools = Sequence[Sequence[Path]]


@dataclass(frozen=True)
class Parts:
    """Parts of pictures, drawn with a seed.

    Attributes:
        pools: each gives as many of a batch.
        preprocessing: of the network that is taught.
        generator: of what is drawn.
        opened: the pictures that were opened before.
        side: pixels of a part, as the network sees it.
        least: of a picture, the least area in a part.
        turned: upside down and on its side too, lighter and darker.
    """

    pools: Pools
    preprocessing: Preprocessing
    generator: np.random.Generator
    opened: dict[Path, Image.Image]
    side: int = SIDE
    least: float = LEAST
    turned: bool = False

    def batch(self, number: int) -> Tensor:
        """So many parts (number, 3, side, side), normalised."""
        return torch.stack([self._part(self.pools[n % len(self.pools)]) for n in range(number)])

    def _part(self, pool: Sequence[Path]) -> Tensor:
        path = pool[int(self.generator.integers(len(pool)))]
        if path not in self.opened:
            self.opened[path] = _small(read_image(path))
        picture, uniform = self.opened[path], self.generator.uniform
        area, aspect = uniform(self.least, 1), np.exp(uniform(-0.3, 0.3))
        width, height = (
            min(1.0, np.sqrt(area * ratio)) * side
            for side, ratio in zip(picture.size, (aspect, 1 / aspect), strict=True)
        )
        left, top = uniform(0, picture.width - width), uniform(0, picture.height - height)
        box = (left, top, left + width, top + height)
        part = np.asarray(picture.resize((self.side, self.side), Image.Resampling.BILINEAR, box))
        part = part[:, ::-1] if uniform() < 0.5 else part
        if self.turned:
            part = part[::-1] if uniform() < 0.5 else part
            part = part.transpose(1, 0, 2) if uniform() < 0.5 else part
            light = (part - 128.0) * uniform(0.8, 1.2) + 128 + uniform(-20, 20)
            part = light.clip(0, 255).astype(np.uint8)
        return self.preprocessing.normalize(np.ascontiguousarray(part))


def taught(
    folder: Path,
    teacher: Classifier,
    pools: Pools,
    steps: int = STEPS,
    weights: str | Path = SCRATCH,
    seed: int = 0,
) -> Classifier:
    """The demo's ConvNeXt with the teacher's classes, saved in ``folder``."""
    names, size = teacher.class_names, (SIDE, SIDE)
    student, _ = start(MODEL, weights, names, size, "squash", seed, ARGUMENTS)
    network, preprocessing = student.network, student.preprocessing
    assert preprocessing is not None
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    parts = Parts(pools, preprocessing, np.random.default_rng(seed), {})
    network.train()
    with progress("taught", steps, shown=True) as advance:
        for _ in range(steps):
            images = parts.batch(BATCH)
            told = F.log_softmax(teacher.logits(images) / TEMPERATURE, dim=1)
            said = F.log_softmax(network(images) / TEMPERATURE, dim=1)
            loss = F.kl_div(said, told, reduction="batchmean", log_target=True) * TEMPERATURE**2
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            advance(1)
    network.eval()
    return student.save(folder)


def taught_twice(folder: Path, teacher: Classifier, pools: Pools, steps: int = STEPS) -> Classifier:
    """The same, taught once more from what it learned."""
    taught(folder, teacher, pools, steps)
    return taught(folder, teacher, pools, steps, folder / "weights.safetensors", seed=1)


def agreement(student: Classifier, teacher: Classifier, photos: Sequence[Path]) -> float:
    """The share of whole photos to which both give the same class first."""
    opened = [read_image(path) for path in photos]
    answers = [one.logits(one.inputs(opened)).argmax(1) for one in (student, teacher)]
    return float((answers[0] == answers[1]).float().mean())


def pictures() -> Pools:
    """The sample photos, and the training photos of the sets beside this checkout."""
    sets = [read_dataset(SHARED / "data" / folder).split("train") for folder in FOLDERS]
    return [sorted(PHOTOS.glob("*.jpg")), [r.path for dataset in sets for r in dataset.records]]


def teacher() -> Classifier:
    """The MobileNetV2 with ImageNet's weights."""
    return Classifier.load(f"timm:mobilenetv2_100@{WEIGHTS}")


def _small(picture: Image.Image) -> Image.Image:
    scale = KEPT / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture if scale >= 1 else picture.resize(size, Image.Resampling.LANCZOS)


def main() -> None:
    """Teach it, and say how far it agrees."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distilling")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    pools, knows = pictures(), teacher()
    student = taught_twice(given.out, knows, pools, given.steps)
    print(f"the same first class on {agreement(student, knows, pools[0]):.2f} of the photos")


if __name__ == "__main__":
    main()
