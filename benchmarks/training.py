"""What masks cost in training: an epoch with them over an epoch of classification alone.

python -m benchmarks.training [--quick]

Prints a table. Every figure is a ratio of times in one process: the best of several rounds in which
the works take turns. An epoch is training steps with augmentation, and validation, on simulated
photos that are in memory; every photo has a mask, which is the dearest case for guided maps.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.timing import best_seconds
from mitate.data.masks import MaskIndex
from mitate.data.paddy import write_paddy
from mitate.training import Supervision
from mitate.training.loop import Schedule, run
from mitate.training.masks import TrueMasks, true_masks
from mitate.training.photos import Photos
from mitate.training.preparing import Prepared, prepared
from mitate.training.segmentation import with_masks
from mitate.training.start import SCRATCH, start
from mitate.training.task import classification

WAYS = {
    "classification": None,
    "with masks (multi-task)": Supervision(),
    "guided maps alone": Supervision(weight=0, guide=True),
    "with masks and guided maps": Supervision(guide=True),
}
AIMS = {"with masks (multi-task)": 1.6, "guided maps alone": 2.0}
SYMPTOM = 2


def main() -> None:
    """Time every way for some networks and print the ratios."""
    warnings.simplefilter("ignore")
    quick = "--quick" in sys.argv
    models = ("test_convnext",) if quick else ("convnext_nano", "mobilenetv2_100", "resnet18")
    size, number, rounds = (96, 1, 1) if quick else (224, 8, 3)
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {size} px, batches of 16\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_paddy(folder, train_per_class=number, valid_per_class=1, size=size, seed=0)
        dataset = prepared(folder)
        masks = true_masks(dataset, MaskIndex.of(dataset), value=SYMPTOM)
        for model in models:
            works = {
                name: partial(_epoch, model, size, dataset, masks, supervision)
                for name, supervision in WAYS.items()
            }
            _print(model, best_seconds({name: work() for name, work in works.items()}, rounds))


def _epoch(
    model: str,
    size: int,
    dataset: Prepared,
    masks: TrueMasks,
    supervision: Supervision | None,
) -> Callable[[], object]:
    """One epoch of a network, ready to run; its photos are decoded by the first run."""
    names = dataset.class_names
    classifier, _ = start(model, SCRATCH, names, (size, size), "squash", 0, {})
    marked = None if supervision is None else masks
    train, valid = (
        Photos(dataset.split(side).records, names, classifier.preprocessing, marked)
        for side in ("train", "valid")
    )
    task = classification(classifier.network)
    if supervision is not None:
        task = with_masks(classifier, supervision, 0)[1]
    schedule = Schedule(1, min(16, len(train)), 1e-3, None, False, "full", 0)
    return partial(run, task, train, valid, schedule, shown=False)


def _print(model: str, seconds: dict[str, float]) -> None:
    print(f"| {model} | s an epoch | x classification | aim |")
    print("| --- | --- | --- | --- |")
    for name, taken in seconds.items():
        ratio = taken / seconds["classification"]
        aim = f"<= {AIMS[name]}" if name in AIMS else ""
        print(f"| {name} | {taken:.2f} | {ratio:.2f} | {aim} |")
    print()


if __name__ == "__main__":
    main()
