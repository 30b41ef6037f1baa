"""mitate train."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mitate.cli.parsing import Device, Flag, Json, Out, check_masks_for, size_of
from mitate.cli.tables import number, print_json, print_table, tell
from mitate.errors import UsageError
from mitate.files import check_folder


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
    balance: Flag = False,
    group: str | None = None,
    valid_fraction: float = 0.2,
    seed: int = 0,
    device: Device = "auto",
    masks: Path | None = None,
    mask_value: int | None = None,
    regions: Literal["one", "class"] = "one",
    segmentation_loss: Annotated[
        tuple[Literal["dice", "jaccard", "tversky", "bce", "focal"], ...],
        Parameter(negative=(), show_default=", ".join),
    ] = ("dice", "bce"),
    segmentation_weight: float = 1.0,
    uncertainty: Flag = False,
    guide: Literal["masks"] | None = None,
    guide_weight: float = 1.0,
    plant: Flag = False,
    draw_masks: Flag = False,
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
        balance: show every class equally often, the photos of rare ones repeated.
        group: the CSV's column whose images stay on one side of the split (the same part, plant).
        valid_fraction: share set aside for validation where the data has no split.
        seed: of the split, the weights, shuffling and augmentation.
        device: cpu, cuda, cuda:1 or another; auto is a CUDA GPU where there is one.
        masks: of some or all photos: a folder, a CSV or annotations; the classifier learns to
            segment what they mark too.
        mask_value: the value that marks the region in index masks.
        regions: one region whatever the class, or one a class (a mask marks its photo's class).
        segmentation_loss: of the segmentation; repeat it for the sum of several.
        segmentation_weight: of the segmentation beside the classification.
        uncertainty: let training find the weights of classification and segmentation.
        guide: teach the map of the true class (Grad-CAM at the last layer) to lie in the masks;
            with --segmentation-weight 0 that alone.
        guide_weight: of that beside the classification.
        plant: show what the masks mark in other photos' surroundings, too.
        draw_masks: train in three rounds: on the photos that have a mask; on all, with masks that
            the segmentation drew for the others; and on the former again (half, all and a third of
            the epochs).
        json: print the scores as JSON.
    """
    from mitate.models.saved import DESCRIPTION
    from mitate.training.fit import check_settings, fit
    from mitate.training.masks import true_masks
    from mitate.training.preparing import prepared, unevenness
    from mitate.training.scores import guessing
    from mitate.training.segmentation import Supervision

    check_masks_for(masks, mask_value=mask_value)
    models, pixels = tuple(dict.fromkeys(model)), size_of(size)
    check_settings(models, weights, epochs, batch_size, lr, augment, patience)
    if masks is None and (guide is not None or plant or draw_masks):
        raise UsageError(
            "--guide masks, --plant and --draw-masks need masks: name them with --masks"
        )
    supervision = Supervision(
        regions,
        segmentation_loss,
        segmentation_weight,
        uncertainty,
        guide is not None,
        guide_weight,
        plant,
        draw_masks,
    ).checked()
    if masks is None and supervision != Supervision():
        raise UsageError(
            "--regions, --uncertainty, --guide-weight and those of the segmentation are for "
            "training with masks: name them with --masks"
        )
    folders = {name: out if len(models) == 1 else out / name.replace("/", "_") for name in models}
    for folder in folders.values():
        check_folder(folder)
        if (folder / DESCRIPTION).exists():
            tell(f"note: {folder} holds a classifier, which this one replaces once it is trained")
    dataset = prepared(data, group=group, valid_fraction=valid_fraction, seed=seed, shown=True)
    for notice in dataset.notices:
        tell(f"note: {notice}")
    if not balance and (uneven := unevenness(dataset.counts()["train"])):
        tell(f"note: {uneven}")
    marked = None
    if masks is not None:
        marked = true_masks(dataset, masks, value=mask_value, shown=True)
        for notice in marked.notices:
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
            balance=balance,
            seed=seed,
            device=device,
            masks=marked,
            supervision=supervision,
        )
        for line in guessing(fitted[name].scores):
            tell(f"note: {line}")
    if json:
        print_json({name: result.as_dict() for name, result in fitted.items()})
        return 0
    if len(fitted) == 1:
        _print_classes(next(iter(fitted.values())))
    _print_comparison(fitted)
    return 0


def _print_classes(fitted: "Fitted") -> None:  # type: ignore[name-defined]  # noqa: F821
    drawn = fitted.scores.segmentation
    of_masks: list[list[str]] = [[] for _ in fitted.scores.classes]
    if drawn is not None:
        of_masks = [[number(s.dice), number(s.iou), str(s.images)] for s in drawn.classes]
    rows = [
        [s.name, f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", str(s.support), *more]
        for s, more in zip(fitted.scores.classes, of_masks, strict=True)
    ]
    more = () if drawn is None else ("Dice", "IoU", "masks")
    print_table(("class", "precision", "recall", "F1", "photos", *more), rows)


def _print_comparison(fitted: dict[str, "Fitted"]) -> None:  # type: ignore[name-defined]  # noqa: F821
    drawn = any(result.scores.segmentation for result in fitted.values())
    rows = [
        [
            name,
            f"{result.scores.accuracy:.3f}",
            f"{result.scores.macro_f1:.3f}",
            *_overlap(result.scores.segmentation),
            f"{result.parameters / 1e6:.1f}",
            f"{result.milliseconds:.1f}",
            f"{result.seconds:.0f}",
        ]
        for name, result in fitted.items()
    ]
    more = ("Dice", "IoU") if drawn else ()
    cost = ("million weights", "ms an image", "s of training")
    print_table(("model", "accuracy", "macro F1", *more, *cost), rows)


def _overlap(drawn: "SegmentationScores | None") -> list[str]:  # type: ignore[name-defined]  # noqa: F821
    return [] if drawn is None else [number(drawn.dice), number(drawn.iou)]
