"""mitate report."""

from pathlib import Path
from typing import Literal

from mitate.cli.explain import SOME_FAILED
from mitate.cli.parsing import (
    Device,
    Flag,
    Fusion,
    Methods,
    Options,
    Out,
    check_masks_for,
    options_of,
)
from mitate.cli.tables import tell
from mitate.files import check_folder


def report(
    ref: str,
    data: Path,
    /,
    *,
    out: Out = Path("report.html"),
    method: Methods = ("gradcam",),
    layer: str = "auto",
    budget: float | None = None,
    fusion: Fusion | None = None,
    against: str | None = None,
    strength: float = 1.0,
    augment: Flag = False,
    option: Options = (),
    split: Literal["train", "valid", "test"] | None = None,
    right: int = 3,
    wrong: int = 6,
    limit: int | None = None,
    masks: Path | None = None,
    mask_value: int | None = None,
    colormap: str | None = None,
    opacity: float | None = None,
    device: Device = "auto",
    title: str = "",
) -> int:
    """Write one HTML file: scores, confusions, galleries of right and wrong with maps.

    Args:
        ref: the classifier.
        data: photos, a folder of them, or a data set; of one with splits the validation part.
        out: the file, or a folder for report.html.
        method: maps in the gallery, or auto; repeat it for several.
        layer: a layer's name (mitate layers), auto, or several as "A + B".
        budget: with auto, the forwards that a photo may cost for each class explained.
        fusion: how the maps of several layers become one: max when not given.
        against: explain each class against this one, or against the nearest ones (nearest).
        strength: how much of the other class's score --against takes off.
        augment: average over mirrored and over paler and stronger copies: smoother, six times the
            cost.
        option: an option of a method, NAME=VALUE.
        split: another split of the data set.
        right: right predictions a class in the gallery.
        wrong: wrong predictions a class in the gallery.
        limit: only so many photos, evenly chosen.
        masks: a folder, a CSV or annotations: adds where the maps lie, beside the controls.
        mask_value: the value that marks the region in index masks.
        colormap: any of matplotlib's; jet with --opacity 0.4 gives the familiar look.
        opacity: of the map over the photo, 0 to 1, where the page's slider begins.
        device: cpu, cuda, cuda:1 or another; auto is a CUDA GPU where there is one.
        title: of the page.
    """
    from mitate.data.regions import regions_told
    from mitate.jobs.explaining import Style
    from mitate.jobs.gallery import build_report, report_path
    from mitate.jobs.photos import evenly, folder_of, open_masks, reported
    from mitate.models.classifier import Classifier
    from mitate.view.report import write_report

    check_masks_for(masks, mask_value=mask_value)
    page = report_path(out)
    check_folder(page.parent)
    classifier = Classifier.load(ref).to(device)
    records, notices = reported(data, classifier, split)
    opened = open_masks(masks, data)
    notices += regions_told(opened, [record.path for record in records], mask_value)
    for notice in notices:
        tell(f"note: {notice}")
    built, failures = build_report(
        classifier,
        evenly(records, limit),
        root=folder_of(data),
        methods=method,
        layer=layer,
        budget=budget,
        fusion=fusion,
        against=against,
        strength=strength,
        augment=augment,
        options=options_of(option),
        right=right,
        wrong=wrong,
        masks=opened,
        mask_value=mask_value,
        style=Style(colormap, opacity),
        title=title,
        notices=notices,
    )
    for line in failures:
        tell(f"skipped: {line}")
    tell(f"report: {write_report(built, page)}")
    return SOME_FAILED if failures else 0
