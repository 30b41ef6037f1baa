"""A small ConvNeXt, taught a data set's classes by a classifier that knows them.

python -m benchmarks.teaching CLASSIFIER DATA OUT [--rounds N] [--steps N]

No ImageNet weights of a ConvNeXt are at hand, and from scratch one learns little of small defects
in a thousand photos. So the demo's ConvNeXt learns from parts of the photos that the classifier, a
timm network, was trained on, without their labels: to answer as it does (Hinton et al. 2015,
arXiv:1503.02531), and to see what its layers see, by a linear map from each of its own layers to
the classifier's of the same grid (Romero et al. 2015, arXiv:1412.6550, who take one layer). Each
round begins with what the last one learned, with larger parts and a lower rate. It ends with the
accuracy and the macro-F1 on the photos that the classifier's training set aside.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.distilling import TEMPERATURE, Parts
from mitate import Classifier
from mitate.data.dataset import Record, read_dataset
from mitate.data.decoding import read_image
from mitate.data.seen import TRAIN, VALID
from mitate.demo import ARGUMENTS, MODEL
from mitate.progress import progress
from mitate.training.scores import Scores, score
from mitate.training.start import SCRATCH, start

ROUNDS = ((0.5, 3e-3), (0.7, 2.5e-3), (0.75, 2e-3))  # the least area of a part, the highest rate
BATCH, STEPS = 16, 2400
DECAY, STEEPEST = 0.05, 5.0
FEATURES = 2.0  # times what the layers differ, beside what the answers do
ANY = 4  # pools of any photos beside one of each class


def taught(
    folder: Path,
    teacher: Classifier,
    records: Sequence[Record],
    least: float,
    rate: float,
    steps: int = STEPS,
    weights: str | Path = SCRATCH,
    seed: int = 0,
) -> Classifier:
    """One round: the demo's ConvNeXt with the teacher's classes, saved in ``folder``."""
    size = teacher.preprocessing.size
    student, _ = start(MODEL, weights, teacher.class_names, size, "squash", seed, ARGUMENTS)
    torch.manual_seed(seed)
    network: Any = student.network
    network.to(memory_format=torch.channels_last)
    parts = Parts(
        _pools(records),
        student.preprocessing,
        np.random.default_rng(seed),
        {},
        side=size[0],
        least=least,
        turned=True,
    )
    likeness = Likeness(network, teacher.network.eval(), parts.batch(2))
    learnt = [*network.parameters(), *likeness.parameters()]
    optimizer = torch.optim.AdamW(learnt, lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    network.train()
    with progress("taught", steps, shown=True) as advance:
        for _ in range(steps):
            answers, features = likeness(parts.batch(BATCH))
            optimizer.zero_grad()
            torch.autograd.backward(answers + FEATURES * features)
            nn.utils.clip_grad_norm_(learnt, STEEPEST)
            optimizer.step()
            schedule.step()
            advance(1)
    network.eval()
    known = student.with_provenance(taught_by=teacher.reference)
    return replace(known, seen=teacher.seen).save(folder)


class Likeness(nn.Module):
    """How far a student's answers and layers are from a teacher's, both of timm's networks."""

    def __init__(self, student: Any, teacher: Any, images: Tensor) -> None:
        """Pair each layer of the student with the teacher's last one of its grid."""
        super().__init__()
        self.networks = (student, teacher)  # not of this module: neither is trained by it
        with torch.no_grad():
            _, own = student.forward_intermediates(images)
            _, theirs = teacher.forward_intermediates(images)
        of_grid = {feature.shape[2:]: place for place, feature in enumerate(theirs)}
        self.pairs = [
            (n, of_grid[f.shape[2:]]) for n, f in enumerate(own) if f.shape[2:] in of_grid
        ]
        channels = [(own[mine].shape[1], theirs[its].shape[1]) for mine, its in self.pairs]
        self.maps = nn.ModuleList(nn.Conv2d(mine, its, 1) for mine, its in channels)
        self.scaled = nn.ModuleList(nn.BatchNorm2d(its, affine=False) for _, its in channels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the answers and what the layers differ by, for images (b, channels, H, W)."""
        student, teacher = self.networks
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            last, theirs = teacher.forward_intermediates(images)
            told = F.log_softmax(teacher.forward_head(last) / TEMPERATURE, dim=1)
        last, own = student.forward_intermediates(images)
        said = F.log_softmax(student.forward_head(last) / TEMPERATURE, dim=1)
        differing = [
            F.mse_loss(mapped(own[mine]), scaled(theirs[its]))
            for mapped, scaled, (mine, its) in zip(self.maps, self.scaled, self.pairs, strict=True)
        ]
        answers = F.kl_div(said, told, reduction="batchmean", log_target=True)
        return answers * TEMPERATURE**2, torch.stack(differing).mean()


def judged(student: Classifier, records: Sequence[Record]) -> Scores:
    """Its scores on whole photos."""
    names = student.class_names
    photos = (student.inputs([read_image(record.path)]) for record in records)
    found = [int(student.logits(photo).argmax()) for photo in photos]
    return score([names.index(record.label or "") for record in records], found, names)


def _pools(records: Sequence[Record]) -> list[list[Path]]:
    """Photos of each class, since some are rare, and all of them."""
    classes = sorted({record.label or "" for record in records})
    each = [[record.path for record in records if record.label == name] for name in classes]
    return [*each, *[[record.path for record in records]] * ANY]


def main() -> None:
    """Teach it, round by round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.teaching")
    parser.add_argument("classifier", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=len(ROUNDS))
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    teacher = Classifier.load(given.classifier)
    if teacher.seen is None or not teacher.seen.is_known:
        parser.error(f"{given.classifier} does not tell which photos it was trained on")
    records = read_dataset(given.data).records
    sides = [teacher.seen.side_of(record.path) for record in records]
    train, valid = (
        [record for record, side in zip(records, sides, strict=True) if side == wanted]
        for wanted in (TRAIN, VALID)
    )
    weights: str | Path = SCRATCH
    for number, (least, rate) in enumerate(ROUNDS[: given.rounds]):
        student = taught(given.out, teacher, train, least, rate, given.steps, weights, seed=number)
        weights = given.out / "weights.safetensors"
        scores = judged(student, valid)
        print(f"round {number + 1}: accuracy {scores.accuracy:.3f}, macro-F1 {scores.macro_f1:.3f}")


if __name__ == "__main__":
    main()
