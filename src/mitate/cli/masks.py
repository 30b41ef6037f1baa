"""mitate masks."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mitate.cli.explain import SOME_FAILED
from mitate.cli.parsing import Device, Fusion, Json, Out, check_masks_for
from mitate.cli.tables import number, print_json, tell
from mitate.data.wording import counted
from mitate.files import check_folder


def masks(
    ref: str,
    data: Path,
    /,
    *,
    out: Out,
    method: Annotated[str, Parameter(name=["--method", "-m"])] = "layercam",
    layer: str = "auto",
    fusion: Fusion | None = None,
    masks: Path | None = None,
    mask_value: int | None = None,
    threshold: float | None = None,
    empty: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    refine: Literal["superpixels"] | None = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Make a mask of each photo's map, as PNG and COCO, to be corrected and trained with.

    Made again into the same folder, masks that were corrected by hand stay as they are.

    Args:
        ref: the classifier.
        data: a folder of class folders, or a CSV.
        out: the folder for masks/ and instances.json.
        method: how maps are made (mitate methods).
        layer: a layer's name (mitate layers), auto, or several as "A + B".
        fusion: how the maps of several layers become one: max when not given.
        masks: true masks of some photos, which choose the threshold and judge what is made.
        mask_value: the value that marks the region in index masks.
        threshold: from which share of its maximum on a map is marked; otherwise the best on the
            true masks, or 0.5 without any.
        empty: a class that has nothing to mark: its photos get empty masks.
        refine: superpixels: average the map over each, so that masks follow the photo's edges.
        device: cpu, cuda, cuda:1 or another; auto is a CUDA GPU where there is one.
        json: print what came of it as JSON.
    """
    from mitate.data.dataset import read_dataset
    from mitate.explain.explainer import Explainer
    from mitate.jobs.photos import open_masks
    from mitate.models.classifier import Classifier
    from mitate.training.overlaps import POOR
    from mitate.training.pseudo import make_masks

    check_masks_for(masks, mask_value=mask_value)
    check_folder(out)
    classifier = Classifier.load(ref).to(device)
    dataset = read_dataset(data, labelled=False)
    for notice in dataset.notices:
        tell(f"note: {notice}")
    made = make_masks(
        Explainer(classifier, method, layer, fusion=fusion, show_progress=False),
        dataset,
        out,
        masks=open_masks(masks, dataset.records),
        value=mask_value,
        threshold=threshold,
        empty=empty,
        superpixels=refine is not None,
    )
    for line in made.failures:
        tell(f"skipped: {line}")
    for name in made.kept:
        tell(f"kept: {name}, which is not as it was made (delete it to have it made anew)")
    if json:
        print_json(made.as_dict())
    else:
        beside = f"beside {len(made.kept)} kept, " if made.kept else ""
        drawn = counted(made.number, "mask")
        print(f"{drawn} in {out}, {beside}at a threshold of {made.threshold:.2f}")
        if made.judged:
            found = f"Dice {number(made.dice)}, IoU {number(made.iou)}"
            print(f"{found} on {made.judged} true masks")
    if made.dice is not None and made.dice < POOR:
        tell(
            "note: these masks are poor, and to train on them may do harm: take another method or "
            "layer, see by mitate audit whether the classifier looks at the right place, or draw "
            "masks by hand"
        )
    if not (made.number or made.kept):
        return 1
    return SOME_FAILED if made.failures else 0
