"""mitate train."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mitate.cli.parsing import Json, Out, size_of
from mitate.cli.places import check_folder
from mitate.cli.tables import print_json, print_table, tell


def train(
    data: Path,
    /,
    *,
    out: Out,
    model: Annotated[
        tuple[str, ...], Parameter(name="--model", negative=(), show_default=", ".join)
    ] = ("convnext_nano",),
    weights: str = "hub",
    epochs: int = 8,
    size: str = "224",
    resize: Literal["squash", "crop", "pad"] = "squash",
    batch_size: int = 32,
    lr: float | None = None,
    augment: Literal["none", "flip", "turn", "full"] = "full",
    patience: int | None = None,
    group: str | None = None,
    valid_fraction: float = 0.2,
    seed: int = 0,
    json: Json = False,
) -> int:
    """Train a classifier on photos sorted by class, or several and compare them.

    Args:
        data: a folder of class folders (optionally in train and valid folders), or a CSV with the
            columns path and label and, where given, split, mask and a group column.
        out: the folder to write; with several models, one folder each in it.
        model: any architecture of timm; repeat it to train several.
        weights: a file of weights, hub (from scratch where the hub cannot be reached) or none.
        epochs: passes over the training images.
        size: input size, such as 224 or 128x256 (height x width).
        resize: squash the whole photo, crop its centre, or pad it.
        batch_size: images in a step.
        lr: highest learning rate; found when not given.
        augment: flip left and right; turn also upside down; full also rotation, warp and light.
        patience: stop after so many epochs without a lower validation loss.
        group: the CSV's column whose images stay on one side of the split (the same part, plant).
        valid_fraction: share set aside for validation where the data has no split.
        seed: of the split, the weights, shuffling and augmentation.
        json: print the scores as JSON.
    """
    from mitate.training.fit import check_settings, fit
    from mitate.training.preparing import prepared

    models, pixels = tuple(dict.fromkeys(model)), size_of(size)
    check_settings(models, weights, epochs, batch_size, lr, augment, patience)
    folders = {name: out if len(models) == 1 else out / name.replace("/", "_") for name in models}
    for folder in folders.values():
        check_folder(folder)
    dataset = prepared(data, group=group, valid_fraction=valid_fraction, seed=seed, shown=True)
    for notice in dataset.notices:
        tell(f"note: {notice}")
    fitted = {}
    for name, folder in folders.items():
        tell(f"training {name} on {len(dataset.split('train'))} photos into {folder}")
        fitted[name] = fit(
            dataset,
            folder,
            model=name,
            weights=weights,
            epochs=epochs,
            size=pixels,
            resize=resize,
            batch_size=batch_size,
            lr=lr,
            augment=augment,
            patience=patience,
            seed=seed,
        )
    if json:
        print_json({name: result.as_dict() for name, result in fitted.items()})
        return 0
    if len(fitted) == 1:
        _print_classes(next(iter(fitted.values())))
    _print_comparison(fitted)
    return 0


def _print_classes(fitted: "Fitted") -> None:  # type: ignore[name-defined]  # noqa: F821
    rows = [
        [s.name, f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", str(s.support)]
        for s in fitted.scores.classes
    ]
    print_table(("class", "precision", "recall", "F1", "photos"), rows)


def _print_comparison(fitted: dict[str, "Fitted"]) -> None:  # type: ignore[name-defined]  # noqa: F821
    rows = [
        [
            name,
            f"{result.scores.accuracy:.3f}",
            f"{result.scores.macro_f1:.3f}",
            f"{result.parameters / 1e6:.1f}",
            f"{result.milliseconds:.1f}",
            f"{result.seconds:.0f}",
        ]
        for name, result in fitted.items()
    ]
    columns = ("model", "accuracy", "macro F1", "million weights", "ms an image", "s of training")
    print_table(columns, rows)
