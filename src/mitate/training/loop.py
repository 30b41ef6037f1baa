"""The training loop: fastai's Learner, with augmentation in batches and mitate's progress."""

import copy
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mitate import imports
from mitate.allocation import keeping_memory
from mitate.errors import ClassifierError, MitateWarning
from mitate.linears import quick_linears
from mitate.progress import Advance, progress
from mitate.training.photos import Photos
from mitate.training.planting import planting
from mitate.training.task import Task

FINDER_STEPS, USUAL_LR = 60, 1e-3
BODY = 3  # a pretrained body learns so many times slower than its new head
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {"do_flip": False, "max_rotate": 0, "max_zoom": 1, "max_lighting": 0, "max_warp": 0},
    "flip": {"max_rotate": 0, "max_zoom": 1.1, "max_lighting": 0, "max_warp": 0},
    "turn": {"flip_vert": True, "max_rotate": 0, "max_zoom": 1.1, "max_lighting": 0, "max_warp": 0},
    "full": {"max_rotate": 15, "max_zoom": 1.15, "max_lighting": 0.2, "max_warp": 0.1},
}


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: passes over the training images.
        batch_size: images in one step.
        lr: highest learning rate of the cycle; None finds it.
        patience: stop after so many epochs without a lower validation loss; None never does.
        pretrained: whether the body starts from trained weights and so learns slower.
        seed: seeds shuffling, augmentation and dropout.
        plant: the share of the photos with a mask that show what is marked in other photos'
            surroundings.
        length: images in an epoch, of fewer photos each several times; None is one pass over them.
        balance: whether every class has as many images in an epoch, rare ones repeated.
        device: where the model is while it trains.
    """

    epochs: int
    batch_size: int
    lr: float | None
    patience: int | None
    pretrained: bool
    augment: str
    seed: int
    plant: float = 0.0
    length: int | None = None
    balance: bool = False
    device: torch.device = torch.device("cpu")


@dataclass(frozen=True)
class Epoch:
    """One line of the history."""

    epoch: int
    train_loss: float
    valid_loss: float
    accuracy: float
    dice: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The line as plain data, without what was not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def run(
    task: Task, train: Photos, valid: Photos, schedule: Schedule, *, shown: bool
) -> tuple[list[Epoch], float]:
    """Train the task's model in place; give the history and the learning rate that was used.

    Raises:
        ClassifierError: training that diverged.
        Stopped: the user interrupted it after an epoch or more; the model is as it was then.
    """
    imports.declare_missing_operators()
    with (
        _own_randomness(schedule.seed),
        tempfile.TemporaryDirectory() as scratch,
        quick_linears(),
        keeping_memory(),
    ):
        learner = _learner(task, train, valid, schedule, Path(scratch))
        steps = len(learner.dls.train)
        lr = schedule.lr or _found_lr(learner, shown)
        with (
            progress("training", schedule.epochs * steps, shown=shown) as advance,
            learner.no_bar(),
            learner.no_logging(),
        ):
            stopped, callbacks = False, _callbacks(task, schedule, advance, shown)
            try:
                learner.fit_one_cycle(
                    schedule.epochs,
                    slice(lr / BODY, lr) if schedule.pretrained else lr,
                    cbs=callbacks,
                )
            except KeyboardInterrupt:
                stopped = True
                if shown and len(learner.recorder.values):
                    print("stopping: what was learnt so far is judged and saved", file=sys.stderr)
                best = getattr(callbacks[-1], "kept", None)  # fastai puts it back at the end alone
                if best is not None:
                    learner.model.load_state_dict(best)
        learner.model.to(memory_format=torch.contiguous_format)
        history = [_epoch(i, row, task) for i, row in enumerate(learner.recorder.values)]
    task.model.eval().to("cpu")
    if stopped and not history:
        raise KeyboardInterrupt
    _check_finite(task, history if schedule.patience else history[-1:], lr)
    if stopped:
        raise Stopped(history, lr)
    return history, lr


class Stopped(KeyboardInterrupt):
    """The user interrupted training that has something to show for it."""

    def __init__(self, history: list[Epoch], lr: float) -> None:
        """What was done so far, and the learning rate."""
        super().__init__()
        self.history, self.lr = history, lr


def _check_finite(task: Task, epochs: Sequence[Epoch], lr: float) -> None:
    """Of the epochs, the weights may be those of any."""
    weights = task.model.state_dict().values()
    finite = all(bool(value.isfinite().all()) for value in weights if value.is_floating_point())
    if not finite or not any(isfinite(epoch.valid_loss) for epoch in epochs):
        what = "the validation loss is" if finite else "weights are"
        raise ClassifierError(
            f"training diverged at the learning rate {lr:.2g} ({what} not finite): nothing is "
            "saved; use a lower --lr"
        )


def _learner(task: Task, train: Photos, valid: Photos, schedule: Schedule, scratch: Path) -> Any:
    vision = imports.fastai("vision.all")
    data = loaders(train, valid, schedule)
    learner = vision.Learner(
        data,
        # Convolutions' backward on a CPU takes 0.3 to 0.9 of its time so, depthwise ones most.
        task.model.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        loss_func=task.loss,
        metrics=list(task.measures),
        splitter=task.body_and_fresh if schedule.pretrained else vision.trainable_params,
        path=scratch,
    )
    learner.remove_cbs(
        [callback for callback in learner.cbs if "Progress" in type(callback).__name__]
    )
    return learner


def loaders(train: Photos, valid: Photos, schedule: Schedule) -> Any:
    """Loaders of (image, mask where there are any, class), augmented and normalised by fastai."""
    vision = imports.fastai("vision.all")
    device = schedule.device
    length = schedule.length or len(train)
    preprocessing = train.preprocessing
    normalize = vision.Normalize.from_stats(preprocessing.mean, preprocessing.std, cuda=False)
    augment = vision.aug_transforms(**AUGMENTATIONS[schedule.augment])
    if schedule.plant:
        augment = [planting(train, schedule.plant), *augment]
    return vision.DataLoaders(
        vision.TfmdDL(
            _Balanced(train, length) if schedule.balance else _Typed(train, length, split_idx=0),
            bs=schedule.batch_size,
            shuffle=True,
            drop_last=length > schedule.batch_size,
            num_workers=0,
            after_batch=[vision.IntToFloatTensor(), *augment, normalize],
            device=device,
        ),
        vision.TfmdDL(
            _Typed(valid, len(valid), split_idx=1),
            bs=2 * schedule.batch_size,
            num_workers=0,
            after_batch=[vision.IntToFloatTensor(), normalize],
            device=device,
        ),
        device=device,
    )


class _Typed:
    """Photos with fastai's types, by which its transforms know what to change."""

    n_inp = 1  # what comes after it is the truth: a mask where there are any, and the class

    def __init__(self, photos: Photos, length: int, split_idx: int) -> None:
        vision = imports.fastai("vision.all")
        self.image, self.category = vision.TensorImage, vision.TensorCategory
        self.mask = vision.TensorMask
        self.photos, self.length, self.split_idx = photos, length, split_idx

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        index = self.index(number)
        pixels, label = self.photos[index]
        levels = () if self.photos.masks is None else (self.mask(self.photos.levels(index)),)
        return self.image(pixels), *levels, self.category(label)

    def index(self, number: int) -> int:
        """Which photo is the one of that number in an epoch."""
        return number % len(self.photos)


class _Balanced(_Typed):
    """The classes in turn, and in each its photos in turn, in a new order after each pass.

    So all photos of a class come equally often, whatever the epochs cut off.
    """

    def __init__(self, photos: Photos, length: int) -> None:
        super().__init__(photos, length, split_idx=0)
        classes = sorted(set(photos.labels))
        self.turns = [_turns(np.flatnonzero(np.equal(photos.labels, one))) for one in classes]

    def index(self, number: int) -> int:
        return next(self.turns[number % len(self.turns)])


def _turns(indices: np.ndarray) -> Iterator[int]:
    while True:
        yield from np.random.permutation(indices).tolist()  # noqa: NPY002 - seeded by the loop


def _callbacks(task: Task, schedule: Schedule, advance: Advance, shown: bool) -> list[Any]:
    vision = imports.fastai("vision.all")

    class Told(vision.Callback):  # type: ignore[misc, name-defined]
        """Moves the bar a step a batch, and prints a line an epoch."""

        order = 60  # after fastai's Recorder

        def after_batch(self) -> None:
            if self.training:
                advance(1)

        def after_epoch(self) -> None:
            if shown:
                done = _epoch(self.epoch, self.recorder.values[-1], task)
                print(_line(done, schedule.epochs), file=sys.stderr)

    class Best(vision.Callback):  # type: ignore[misc, name-defined]
        """Stops early and keeps the best weights; fastai's own callbacks print to stdout."""

        order = 61
        lowest, waited, kept = float("inf"), 0, None

        def after_epoch(self) -> None:
            loss = self.recorder.values[-1][1]
            if loss < self.lowest:
                self.lowest, self.waited = loss, 0
                self.kept = copy.deepcopy(self.learn.model.state_dict())
            else:
                self.waited += 1
                if self.waited >= (schedule.patience or 0):
                    raise vision.CancelFitException

        def after_fit(self) -> None:
            if self.kept is not None:
                self.learn.model.load_state_dict(self.kept)
            if shown and self.waited:
                done = len(self.recorder.values)
                print(
                    f"the weights of epoch {done - self.waited} are kept, those of the lowest "
                    f"validation loss; stopped after {done} of {schedule.epochs} epochs",
                    file=sys.stderr,
                )

    return [Told()] if schedule.patience is None else [Told(), Best()]


def _epoch(index: int, row: Any, task: Task) -> Epoch:
    return Epoch(index + 1, *row[: 2 + len(task.measures)])


def _line(done: Epoch, epochs: int) -> str:
    dice = "" if done.dice is None else f"  Dice {done.dice:.3f}"
    return (
        f"epoch {done.epoch}/{epochs}  train loss {done.train_loss:.3f}  "
        f"validation loss {done.valid_loss:.3f}  accuracy {done.accuracy:.3f}{dice}"
    )


def _found_lr(learner: Any, shown: bool) -> float:
    valley = imports.fastai("callback.schedule").valley
    with (
        progress("finding the learning rate", None, shown=shown),
        learner.no_bar(),
        learner.no_logging(),
        warnings.catch_warnings(),
    ):
        # fastai asks numpy for it by its old name, when it reads back the weights it saved.
        warnings.filterwarnings("ignore", "numpy.core is deprecated", DeprecationWarning)
        try:
            found = learner.lr_find(
                end_lr=1.0, num_it=FINDER_STEPS, show_plot=False, suggest_funcs=(valley,)
            )
        except IndexError:  # the loss was never finite long enough to be judged
            warnings.warn(
                f"no learning rate could be found: {USUAL_LR} is taken (--lr sets another)",
                MitateWarning,
                stacklevel=2,
            )
            return USUAL_LR
    if shown:
        print(f"learning rate found: {found[0]:.2g}", file=sys.stderr)
    return float(found[0])


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed the global generators, which fastai draws from, and put them back afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
