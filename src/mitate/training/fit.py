"""Fitting a timm network to a data set and saving it as a classifier folder."""

import csv
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mitate import imports
from mitate.data.dataset import Dataset, check_dataset, read_dataset, split_dataset
from mitate.data.records import Record
from mitate.errors import ClassifierError, DataError, MitateWarning, UsageError
from mitate.models.architecture import build
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing, Resize
from mitate.models.references import from_library
from mitate.progress import progress
from mitate.training.loop import AUGMENTATIONS, Epoch, Schedule, run
from mitate.training.photos import Photos
from mitate.training.scores import Scores, score

DEFAULT_MODEL = "convnext_nano"
HUB, SCRATCH = "hub", "none"


@dataclass(frozen=True)
class Fitted:
    """A classifier that was trained, and how it went.

    Attributes:
        classifier: as it was saved.
        scores: on the validation images, through the classifier's own preprocessing.
        history: one line an epoch.
        parameters: how many weights.
        milliseconds: of one image's share of a batch of 16.
        seconds: of training, without reading the data.
        notices: what the data reader had to tell.
    """

    classifier: Classifier
    scores: Scores
    history: tuple[Epoch, ...]
    parameters: int
    milliseconds: float
    seconds: float
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "folder": str(self.classifier.folder),
            "parameters": self.parameters,
            "milliseconds_an_image": round(self.milliseconds, 3),
            "seconds_of_training": round(self.seconds, 1),
            **self.scores.as_dict(),
            "history": [asdict(epoch) for epoch in self.history],
            "notices": list(self.notices),
        }


def fit(
    data: str | Path | Dataset,
    folder: str | Path,
    *,
    model: str = DEFAULT_MODEL,
    weights: str | Path = HUB,
    epochs: int = 8,
    size: int | tuple[int, int] = 224,
    resize: Resize = "squash",
    batch_size: int = 32,
    lr: float | None = None,
    augment: str = "full",
    patience: int | None = None,
    group: str | None = None,
    valid_fraction: float = 0.2,
    seed: int = 0,
    show_progress: bool = True,
    arguments: Mapping[str, Any] | None = None,
) -> Fitted:
    """Train a classifier and save it.

    Args:
        data: a folder of class folders, a CSV, or a data set that was read already.
        folder: where the classifier goes, with its history, predictions and confusion matrix.
        model: any architecture of timm.
        weights: a file; ``hub`` for pretrained weights where the hub can be reached and a plain
            warning and a start from scratch otherwise; ``none`` for a start from scratch.
        epochs: passes over the training images.
        size: height and width of the input, or one number for both.
        resize: ``squash``, ``crop`` or ``pad``.
        batch_size: images in a step.
        lr: highest learning rate; None finds it.
        augment: ``none``; ``flip`` left and right, and a slight zoom; ``turn`` also upside down;
            ``full`` also rotation, warp and light.
        patience: epochs without a better validation loss before it stops; None goes on.
        group: the CSV's column whose images stay on one side of the split.
        valid_fraction: what is set aside where the data has no split of its own.
        seed: of the split, the weights, shuffling and augmentation.
        show_progress: print progress and a line an epoch to standard error.
        arguments: more arguments of timm's builder, such as ``{"depths": [1, 1, 3, 1]}``.

    Raises:
        DataError: nothing to train on; ClassifierError: no such architecture or other weights.
    """
    _check(epochs, batch_size, lr, augment)
    dataset = prepared(data, group=group, valid_fraction=valid_fraction, seed=seed, shown=show_progress)
    pixels = (size, size) if isinstance(size, int) else size
    start, pretrained = _start(
        model, weights, dataset.class_names, pixels, resize, seed, arguments or {}
    )
    train, valid = (
        Photos(dataset.split(side).records, dataset.class_names, start.preprocessing)
        for side in ("train", "valid")
    )
    schedule = Schedule(
        epochs, min(batch_size, len(train)), lr, patience, pretrained, augment, seed
    )
    begun = time.perf_counter()
    history, used_lr = run(start.network, train, valid, schedule, shown=show_progress)
    seconds = time.perf_counter() - begun
    classifier = replace(start, network=start.network.to("cpu"))
    probabilities = _probabilities(classifier, valid)
    scores = score(valid.labels, probabilities.argmax(1).tolist(), dataset.class_names)
    classifier = classifier.with_provenance(
        training={
            "data": dataset.root.name,
            "images": {side: len(dataset.split(side)) for side in ("train", "valid")},
            "classes": dataset.counts()["train"],
            "model": model,
            "pretrained": pretrained,
            **{name: value for name, value in asdict(schedule).items() if name != "pretrained"},
            "lr": used_lr,
            "seconds": round(seconds, 1),
            "history": [asdict(epoch) for epoch in history],
            "notices": list(dataset.notices),
        },
        metrics=scores.as_dict(),
    ).save(folder)
    _write_tables(Path(folder), dataset, valid.records, probabilities, history, scores)
    return Fitted(
        classifier,
        scores,
        tuple(history),
        sum(parameter.numel() for parameter in classifier.network.parameters()),
        _milliseconds(classifier),
        seconds,
        dataset.notices,
    )


def prepared(
    data: str | Path | Dataset,
    *,
    group: str | None = None,
    valid_fraction: float = 0.2,
    seed: int = 0,
    shown: bool = False,
) -> Dataset:
    """Read, check and split a data set; every command that trains or reports uses this.

    Raises:
        DataError: nothing usable on one side of the split.
    """
    dataset = data if isinstance(data, Dataset) else read_dataset(data, group=group)
    with progress("checking the photos", len(dataset), shown=shown) as advance:
        checked = check_dataset(dataset, progress=lambda done, total: advance(1))
    split = split_dataset(checked, valid_fraction=valid_fraction, seed=seed)
    for side in ("train", "valid"):
        if not len(split.split(side)):
            raise DataError(f"{dataset.root} leaves no image to {side} on: give more photos")
    if len(split.class_names) < 2:
        raise DataError(f"{dataset.root} has one class: a classifier needs two or more")
    return split


def _check(epochs: int, batch_size: int, lr: float | None, augment: str) -> None:
    if augment not in AUGMENTATIONS:
        raise UsageError(f"augment {augment!r}: use one of {', '.join(AUGMENTATIONS)}")
    if epochs < 1 or batch_size < 2 or (lr is not None and lr <= 0):
        raise UsageError(
            f"epochs {epochs}, batch size {batch_size}, learning rate {lr}: use at least 1 epoch, "
            "2 images a batch and a positive rate"
        )


def _start(
    model: str,
    weights: str | Path,
    class_names: Sequence[str],
    size: tuple[int, int],
    resize: Resize,
    seed: int,
    arguments: Mapping[str, Any],
) -> tuple[Classifier, bool]:
    """The untrained or pretrained classifier, and whether it is pretrained."""
    model = model.removeprefix("timm:")
    fixed = {"img_size": list(size)} if _has_fixed_size(model) else {}
    arguments = {**fixed, **arguments}
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.filterwarnings("ignore", message=".*head.*made anew", category=MitateWarning)
        classifier = _from_weights(model, weights, class_names, arguments)
        pretrained = classifier is not None
        if classifier is None:
            classifier = _from_scratch(model, class_names, arguments)
    stats = classifier.preprocessing
    preprocessing = Preprocessing(size=size, resize=resize, mean=stats.mean, std=stats.std)
    return replace(classifier, preprocessing=preprocessing), pretrained


def _from_weights(
    model: str, weights: str | Path, class_names: Sequence[str], arguments: Mapping[str, Any]
) -> Classifier | None:
    if weights == SCRATCH:
        return None
    if weights != HUB:
        return from_library("timm", model, Path(weights), class_names, **arguments)
    try:
        return from_library("timm", model, None, class_names, **arguments)
    except ClassifierError as exc:
        if exc.__cause__ is None:
            raise
    warnings.warn(
        f"the hub with pretrained weights of {model} cannot be reached: training from scratch, "
        "which needs more images and epochs (--weights FILE gives weights that you have)",
        MitateWarning,
        stacklevel=4,
    )
    return None


def _from_scratch(
    model: str, class_names: Sequence[str], arguments: Mapping[str, Any]
) -> Classifier:
    recipe = {
        "kind": "timm",
        "name": model,
        "arguments": {**arguments, "num_classes": len(class_names)},
    }
    classifier = Classifier.from_module(build(recipe).eval(), classes=list(class_names))
    return replace(classifier, recipe=recipe, provenance={"reference": f"timm:{model}"})


def _has_fixed_size(model: str) -> bool:
    config = imports.timm("models").get_pretrained_cfg(model, allow_unregistered=True)
    return bool(config and config.fixed_input_size)


def _probabilities(classifier: Classifier, photos: Photos) -> np.ndarray:
    """Softmax probabilities (images, classes), through the classifier's own preprocessing."""
    batches = np.array_split(np.arange(len(photos)), max(1, len(photos) // 32))
    rows = []
    for batch in batches:
        pixels = [classifier.preprocessing.normalize(photos.pixels(int(i))) for i in batch]
        rows.append(classifier.logits(torch.stack(pixels)).softmax(-1).numpy())
    return np.concatenate(rows)


def _milliseconds(classifier: Classifier, images: int = 16, rounds: int = 3) -> float:
    height, width = classifier.preprocessing.size
    batch = torch.zeros(images, len(classifier.preprocessing.mean), height, width)
    best = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        classifier.logits(batch)
        best = min(best, time.perf_counter() - begun)
    return 1000 * best / images


def _write_tables(
    folder: Path,
    dataset: Dataset,
    records: Sequence[Record],
    probabilities: np.ndarray,
    history: Sequence[Epoch],
    scores: Scores,
) -> None:
    """history.csv, validation.csv and confusion.png beside the classifier."""
    from mitate.drawing.confusion import draw_confusion
    from mitate.drawing.sheet import save_sheet

    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(history[0])))
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)
    with (folder / "validation.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "predicted", "probability"))
        for record, row in zip(records, probabilities, strict=True):
            best = int(row.argmax())
            name = dataset.class_names[best]
            rows.writerow((dataset.name(record.path), record.label, name, f"{row[best]:.6f}"))
    save_sheet(draw_confusion(scores.confusion, dataset.class_names), folder / "confusion.png")
