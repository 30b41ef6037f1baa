"""mitate explain."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mitate.cli.parsing import (
    Device,
    Flag,
    Fusion,
    Json,
    Methods,
    Options,
    Out,
    check_masks_for,
    options_of,
)
from mitate.cli.tables import number, print_json, print_table, tell
from mitate.data.wording import counted
from mitate.files import check_folder

SOME_FAILED = 3


def explain(
    ref: str,
    images: Annotated[tuple[Path, ...], Parameter(negative=())],
    /,
    *,
    out: Out,
    method: Methods = ("gradcam",),
    layer: str = "auto",
    budget: float | None = None,
    fusion: Fusion | None = None,
    against: str | None = None,
    strength: float = 1.0,
    augment: Flag = False,
    top_k: Annotated[int | None, Parameter(name=["--top-k", "-k"])] = None,
    option: Options = (),
    label: str | None = None,
    split: Literal["train", "valid", "test"] | None = None,
    limit: int | None = None,
    masks: Path | None = None,
    mask_value: int | None = None,
    colormap: str | None = None,
    opacity: float | None = None,
    upsample: Literal["bicubic", "bilinear", "nearest"] = "bicubic",
    batch_size: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Draw where the classifier looks on each photo for its most probable classes.

    Args:
        ref: the classifier.
        images: photos, folders of photos, or a data set (a CSV).
        out: the folder for the figures, the maps (.npz) and predictions.csv.
        method: how maps are made (mitate methods), or auto: the best for a budget; repeat it to see
            several side by side.
        layer: a layer's name (mitate layers), auto, or several as "A + B".
        budget: with auto, the forwards that a photo may cost for each class explained.
        fusion: how the maps of several layers become one: max when not given.
        against: explain each class against this one, or against the nearest ones (nearest).
        strength: how much of the other class's score --against takes off.
        augment: average over mirrored and over paler and stronger copies: smoother, six times the
            cost.
        top_k: how many of the most probable classes; 3, or all of fewer, when not given.
        option: an option of a method, NAME=VALUE.
        label: the true class of all photos; otherwise it is the CSV's or the folder's name.
        split: only this split of a data set.
        limit: only so many photos, evenly chosen.
        masks: a folder, a CSV or annotations: prints the share of each map's energy on them.
        mask_value: the value that marks the region in index masks.
        colormap: any of matplotlib's; jet with --opacity 0.4 gives the familiar look.
        opacity: of the map over the photo, 0 to 1.
        upsample: how the map is brought to the photo's pixels.
        batch_size: images in one forward; 16 of 224 px and more of smaller ones when not given.
        seed: of random methods.
        device: cpu, cuda, cuda:1 or another; auto is a CUDA GPU where there is one.
        json: print the predictions as JSON.
    """
    from mitate.data.regions import regions_told
    from mitate.jobs.explaining import Style, explain_photos
    from mitate.jobs.photos import evenly, gather, open_masks
    from mitate.models.classifier import Classifier
    from mitate.models.tasks import word

    check_masks_for(masks, mask_value=mask_value)
    check_folder(out)
    classifier = Classifier.load(ref).to(device)
    found = gather(images, classifier.class_names, label=label, split=split)
    records, opened = evenly(found.records, limit), open_masks(masks, found.whole)
    told = regions_told(opened, [record.path for record in records], mask_value)
    explained = explain_photos(
        classifier,
        records,
        out,
        methods=method,
        layer=layer,
        budget=budget,
        fusion=fusion,
        against=against,
        strength=strength,
        augment=augment,
        top_k=top_k,
        options=options_of(option),
        among=found.whole,
        masks=opened,
        mask_value=mask_value,
        style=Style(colormap, opacity, upsample),
        batch_size=batch_size,
        seed=seed,
    )
    for line in (*found.notices, *told, *explained.notices):
        tell(f"note: {line}")
    for line in explained.failures:
        tell(f"skipped: {line}")
    for line in explained.flags:
        tell(f"flag: {line}")
    if json:
        print_json({"photos": explained.predictions, "places": explained.places_as_dicts()})
    else:
        _print_predictions(explained.predictions, word(classifier.task))
        print_places(explained.comparison)
    if explained.figures:
        tell(
            f"{counted(len(explained.predictions), 'photo')} in "
            f"{counted(len(explained.figures), 'figure')} in {out}"
        )
    if not explained.predictions:
        return 1
    return SOME_FAILED if explained.failures or found.missing else 0


def print_places(comparison: "Comparison") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Print where the maps lie, beside the controls."""
    if not len(comparison):
        return
    places = comparison.places()
    gaps = any(place.energy.missing for place in places)
    rows = [
        [
            place.method + (" (control)" if place.control else ""),
            place.layer,
            number(place.energy.mean),
            f"{number(place.energy.low)} to {number(place.energy.high)}",
            *([str(place.energy.missing)] if gaps else []),
            place.verdict,
        ]
        for place in places
    ]
    area = comparison.area()
    title = (
        f"Share of the map's energy on the mask, {counted(area.images, 'photo')}; the masks "
        f"cover {area.mean:.3f} of them"
    )
    left_out = ("left out",) if gaps else ()
    print_table(("method", "layer", "share", "95 % interval", *left_out, ""), rows, title=title)
    if gaps:
        print("Left out: photos whose map has no energy or is not finite; they are in no share.")


def _print_predictions(predictions: list[dict], likely: str) -> None:  # type: ignore[type-arg]
    rows = [
        [
            entry["image"],
            entry["true"] or "",
            *(f"{found['name']} {number(found[likely])}" for found in entry["classes"]),
        ]
        for entry in predictions
    ]
    if rows:
        ranks = [f"{rank}." for rank in range(1, len(rows[0]) - 1)]
        print_table(("photo", "true", *ranks), rows)
