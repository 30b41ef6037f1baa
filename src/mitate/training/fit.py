"""Fitting a timm network to a data set and saving it as a classifier folder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mitate import imports
from mitate.data.dataset import Dataset
from mitate.data.masks import Masks
from mitate.data.records import Record
from mitate.data.seen import Seen
from mitate.data.wording import counted
from mitate.errors import UsageError, WeightsError
from mitate.files import check_folder, write_csv
from mitate.models.architecture import build
from mitate.models.classifier import Classifier
from mitate.models.devices import AUTO, find_device
from mitate.models.preprocessing import Resize
from mitate.models.saved import WEIGHTS
from mitate.training.judging import judged, milliseconds
from mitate.training.loop import AUGMENTATIONS, Epoch, Schedule, Stopped, run
from mitate.training.masks import TrueMasks, true_masks
from mitate.training.photos import Photos
from mitate.training.planting import SHARE
from mitate.training.preparing import prepared
from mitate.training.scores import Scores, guessing
from mitate.training.segmentation import Supervision, with_masks
from mitate.training.selftraining import DrawnMasks, passes, run_drawing
from mitate.training.start import HUB, SCRATCH, start
from mitate.training.task import Task, classification

DEFAULT_MODEL = "convnext_nano"
HISTORY, VALIDATION, CONFUSION = "history.csv", "validation.csv", "confusion.png"
INTERRUPTED = "interrupted"  # the folder of what was learnt until then


@dataclass(frozen=True)
class Fitted:
    """A classifier that was trained, and how it went.

    Attributes:
        classifier: as it was saved.
        scores: on the validation images, through the classifier's own preprocessing.
        history: one line an epoch.
        parameters: how many weights.
        milliseconds: of one image's share of a batch of 16.
        seconds: of training, with the search for the learning rate.
        notices: what the readers of the data and of the masks had to tell.
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
            "history": [epoch.as_dict() for epoch in self.history],
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
    balance: bool = False,
    group: str | None = None,
    valid_fraction: float = 0.2,
    seed: int = 0,
    device: str | torch.device = AUTO,
    show_progress: bool = True,
    arguments: Mapping[str, Any] | None = None,
    masks: str | Path | Masks | TrueMasks | None = None,
    mask_value: int | None = None,
    supervision: Supervision | None = None,
) -> Fitted:
    """Train a classifier and save it.

    Args:
        data: a folder of class folders, a CSV, or a data set that was read or prepared already.
        folder: where the classifier goes, with its history, predictions and confusion matrix.
        model: any architecture of timm.
        weights: a file; ``hub`` for pretrained weights where the hub can be reached and a plain
            warning and a start from scratch otherwise; ``none`` for a start from scratch.
        epochs: passes over the training images; where masks are drawn, those with drawn ones.
        size: height and width of the input, or one number for both.
        resize: ``squash``, ``crop`` or ``pad``.
        batch_size: images in a step.
        lr: highest learning rate; None finds it.
        augment: ``none``; ``flip`` left and right, and a slight zoom; ``turn`` also upside down;
            ``full`` also rotation, warp and light.
        patience: epochs without a better validation loss before it stops; None goes on.
        balance: show every class equally often, whatever its number of photos: an epoch has as many
            images as without, the photos of rare classes several times and those of frequent ones
            in turns. For parts of which few are defective.
        group: the CSV's column whose images stay on one side of the split.
        valid_fraction: what is set aside where the data has no split of its own.
        seed: of the split, the weights, shuffling and augmentation.
        device: where it trains: ``cpu``, ``cuda``, ``cuda:1`` or another; ``auto`` is a CUDA GPU
            where there is one. What comes out is on the CPU.
        show_progress: print progress and a line an epoch to standard error.
        arguments: more arguments of timm's builder, such as ``{"depths": [1, 1, 3, 1]}``.
        masks: of what the classes are told by, for some or all of the photos: a folder, a CSV, or
            masks that were opened or checked already. With them the classifier learns to segment
            too, and gets a decoder; photos without one teach the classification alone.
        mask_value: the value that marks the region in index masks.
        supervision: what the masks teach; None takes the defaults of ``Supervision``.

    Raises:
        DataError: too little to train on, or no mask that can be used; UsageError: a number that
        cannot be used; ClassifierError: no such architecture, other weights, or training that
        diverged; OSError: a folder where nothing can be written; KeyboardInterrupt: interrupted,
        and after an epoch or more what was learnt is in the folder's ``interrupted``.
    """
    check_settings([model], weights, epochs, batch_size, lr, augment, patience)
    check_folder(Path(folder))
    place = find_device(device)
    dataset: Dataset = prepared(
        data, group=group, valid_fraction=valid_fraction, seed=seed, shown=show_progress
    )
    supervision = (supervision or Supervision()).checked()
    marked = None
    if masks is not None:
        marked = true_masks(dataset, masks, value=mask_value, shown=show_progress)
        dataset = dataset.with_notices(*marked.notices)
    pixels = (size, size) if isinstance(size, int) else size
    names = dataset.class_names
    first, pretrained = start(model, weights, names, pixels, resize, seed, arguments or {})
    train, valid = (
        Photos(dataset.split(side).records, names, first.preprocessing, marked)
        for side in ("train", "valid")
    )
    task = classification(first.network)
    if marked is not None:
        first, task = with_masks(first, supervision, seed)
    steps = min(batch_size, len(train))
    plant = SHARE if marked is not None and supervision.plant else 0
    schedule = Schedule(
        epochs,
        steps,
        lr,
        patience,
        pretrained,
        augment,
        seed,
        plant,
        balance=balance,
        device=place,
    )
    draws = marked is not None and supervision.draw
    course = _taught(first, task, train, valid, schedule, draws=draws, shown=show_progress)
    if course.drawn is not None:
        dataset = dataset.with_notices(course.drawn.words)
    probabilities, scores = judged(first.to(place), valid)
    dataset = dataset.with_notices(*guessing(scores))
    first.to("cpu")
    facts = _facts(dataset, model, course)
    if marked is not None:
        facts["masks"] = {"photos": len(marked.paths), "value": marked.value, **asdict(supervision)}
    if course.drawn is not None:
        facts["masks"]["drawn"] = course.drawn.as_dict()
    if course.stopped:
        folder = Path(folder) / INTERRUPTED  # a finished classifier there stays
    learnt = replace(first, seen=Seen.of(dataset, first.seen))
    classifier = learnt.with_provenance(training=facts, metrics=scores.as_dict()).save(folder)
    _write_tables(Path(folder), dataset, valid.records, probabilities, course.history, scores)
    if course.stopped:
        raise KeyboardInterrupt(
            f"after {counted(len(course.history), 'epoch')}: what was learnt is in {folder}; "
            f"--weights {Path(folder) / WEIGHTS} begins with it"
        )
    return Fitted(
        classifier,
        scores,
        course.history,
        sum(parameter.numel() for parameter in classifier.network.parameters()),
        milliseconds(classifier),
        course.seconds,
        dataset.notices,
    )


@dataclass(frozen=True)
class _Course:
    """How a training went: its schedule with the learning rate that was found, and what came of it.

    ``stopped`` tells that it was interrupted after an epoch or more.
    """

    schedule: Schedule
    history: tuple[Epoch, ...]
    seconds: float
    drawn: DrawnMasks | None = None
    stopped: bool = False


def _taught(
    classifier: Classifier,
    task: Task,
    train: Photos,
    valid: Photos,
    schedule: Schedule,
    *,
    draws: bool,
    shown: bool,
) -> _Course:
    """Train the classifier's network, in passes that draw masks where ``draws`` says so."""
    begun = time.perf_counter()
    drawn, stopped = None, False
    try:
        if draws:
            history, rate, drawn = run_drawing(
                classifier, task, train, valid, schedule, shown=shown
            )
            schedule = replace(schedule, epochs=sum(passes(schedule.epochs)))
        else:
            history, rate = run(task, train, valid, schedule, shown=shown)
    except Stopped as exc:
        history, rate, stopped = exc.history, exc.lr, True
    seconds = time.perf_counter() - begun
    return _Course(replace(schedule, lr=rate), tuple(history), seconds, drawn, stopped)


def check_settings(
    models: Sequence[str],
    weights: str | Path,
    epochs: int,
    batch_size: int,
    lr: float | None,
    augment: str,
    patience: int | None,
) -> None:
    """Refuse what cannot be trained before anything long is begun.

    Raises:
        UsageError: a number that cannot be used, or one file of weights for several models;
        ClassifierError: no such architecture; WeightsError: no such file.
    """
    if augment not in AUGMENTATIONS:
        raise UsageError(f"augment {augment!r}: use one of {', '.join(AUGMENTATIONS)}")
    whole = {"epochs": epochs, "batch_size": batch_size, "patience": patience}
    for name, value in whole.items():
        if value is not None and not isinstance(value, int | np.integer):
            raise UsageError(f"{name} is {value!r}: use a whole number")
    if epochs < 1:
        raise UsageError(f"{epochs} epochs: use 1 or more")
    if batch_size < 2:
        raise UsageError(f"a batch of {batch_size}: use 2 images or more")
    if lr is not None and not 0 < lr < float("inf"):
        raise UsageError(f"a learning rate of {lr}: use a positive rate, or leave it out")
    if patience is not None and patience < 1:
        raise UsageError(f"a patience of {patience} epochs: use 1 or more, or leave it out")
    is_file = weights not in (HUB, SCRATCH)
    if is_file and len(models) > 1:
        raise UsageError(f"{weights} can be of one model only: train the others by themselves")
    if is_file and not Path(weights).is_file():
        raise WeightsError(
            f"no weights file at {weights}: check the path, or use {HUB} or {SCRATCH}"
        )
    for model in models:
        name = model.removeprefix("timm:")
        if not imports.timm().is_model(name):
            build({"kind": "timm", "name": name, "arguments": {}})


def _facts(dataset: Dataset, model: str, course: _Course) -> dict[str, Any]:
    """How a classifier was trained, for classifier.json."""
    return {
        "data": dataset.root.resolve().name,
        "images": {side: len(dataset.split(side)) for side in ("train", "valid")},
        "classes": dataset.counts()["train"],
        "model": model,
        **asdict(course.schedule),
        "device": str(course.schedule.device),
        "seconds": round(course.seconds, 1),
        "history": [epoch.as_dict() for epoch in course.history],
        # Half characters of odd file names have no place in JSON.
        "notices": [text.encode("utf-8", "replace").decode() for text in dataset.notices],
    }


def _write_tables(
    folder: Path,
    dataset: Dataset,
    records: Sequence[Record],
    probabilities: np.ndarray,
    history: Sequence[Epoch],
    scores: Scores,
) -> None:
    """History, predictions and the confusion matrix, beside the classifier."""
    from mitate.drawing.confusion import draw_confusion
    from mitate.drawing.sheet import save_sheet

    write_csv(folder / HISTORY, [epoch.as_dict() for epoch in history])
    predicted = [
        {
            "path": dataset.name(record.path),
            "label": record.label,
            "predicted": dataset.class_names[int(row.argmax())],
            "probability": f"{row.max():.6f}",
        }
        for record, row in zip(records, probabilities, strict=True)
    ]
    write_csv(folder / VALIDATION, predicted)
    save_sheet(draw_confusion(scores.confusion, dataset.class_names), folder / CONFUSION)
