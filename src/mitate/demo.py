"""The main job from end to end on simulated paddy leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mitate.auditing.comparison import CONTROLS, Comparison
from mitate.data.dataset import Dataset, read_dataset
from mitate.data.masks import MaskIndex
from mitate.data.paddy import write_paddy
from mitate.explain.explainer import Explainer
from mitate.jobs.explaining import explain_photos
from mitate.jobs.gallery import build_report, measure
from mitate.jobs.photos import evenly, one_a_class
from mitate.models.classifier import Classifier
from mitate.progress import progress
from mitate.training import Fitted, fit
from mitate.view.report import write_report

TRAIN, VALID, PIXELS = 120, 30, 96
# A ConvNeXt of two million weights. Batch norm and no layer scale let so small a net learn from
# scratch in two minutes; with layer norm it reaches half the accuracy in the same time.
MODEL, EPOCHS, RATE = "convnext_atto", 20, 1e-2
ARGUMENTS = {
    "depths": [1, 1, 3, 1],
    "dims": [32, 64, 128, 256],
    "kernel_sizes": 5,
    "norm_layer": "batchnorm2d",
    "ls_init_value": None,
}
SYMPTOM = 2
MEASURED_PHOTOS = 60
GLANCE, LOUPE = "glance", "loupe"  # mitate's own methods, for small things


@dataclass(frozen=True)
class Demo:
    """What the demo came to."""

    accuracy: float
    photos: int
    comparison: Comparison
    figure: Path
    report: Path


def run_demo(
    folder: Path, *, seed: int = 0, scorecam: bool = True, tell: Callable[[str], None] = print
) -> Demo:
    """Draw, train, explain, measure and report; what is drawn already is used again."""
    tell(f"drawing {10 * (TRAIN + VALID)} simulated photos of paddy leaves, with lesion masks")
    index = drawn(folder / "paddy", seed)
    tell(f"training a small ConvNeXt from scratch, {EPOCHS} epochs at {PIXELS} px")
    fitted = trained(index, folder / "classifier", seed)
    judged = read_dataset(index).split("valid")
    familiar = ("gradcam", "scorecam") if scorecam else ("gradcam",)
    tell("explaining one photo of each class")
    explained = explain_photos(
        fitted.classifier, one_a_class(judged.records), folder / "maps", methods=(*familiar, LOUPE)
    )
    tell("measuring where the maps lie, and writing the report")
    return Demo(
        accuracy=fitted.scores.accuracy,
        photos=len(judged),
        comparison=measured(fitted.classifier, judged, (*familiar, GLANCE, LOUPE)),
        figure=explained.figures[0],
        report=reported(fitted.classifier, judged, folder / "report.html"),
    )


def drawn(folder: Path, seed: int) -> Path:
    """Draw the photos and their masks; give their index."""
    with progress("drawing", 10 * (TRAIN + VALID)) as advance:
        return write_paddy(
            folder,
            train_per_class=TRAIN,
            valid_per_class=VALID,
            size=128,
            seed=seed,
            progress=lambda done, total: advance(1),
        )


def trained(index: Path, folder: Path, seed: int) -> Fitted:
    """Train a small network from scratch, as fast as it will learn."""
    return fit(
        index,
        folder,
        model=MODEL,
        weights="none",
        epochs=EPOCHS,
        size=PIXELS,
        batch_size=32,
        lr=RATE,
        augment="turn",
        seed=seed,
        arguments=ARGUMENTS,
    )


def measured(classifier: Classifier, judged: Dataset, methods: Sequence[str]) -> Comparison:
    """How much of each method's maps, and of the controls', lies on the lesions."""
    explainers = [Explainer(classifier, name) for name in (*methods, *CONTROLS)]
    photos = evenly(judged.records, MEASURED_PHOTOS)
    comparison, _ = measure(explainers, photos, MaskIndex.of(judged), SYMPTOM)
    return comparison


def reported(classifier: Classifier, judged: Dataset, page: Path) -> Path:
    """Write the report."""
    report, _ = build_report(
        classifier,
        judged.records,
        masks=MaskIndex.of(judged),
        mask_value=SYMPTOM,
        region="the lesions",
        title="Ten simulated paddy classes",
        notices=("The photos of this report are simulated.",),
    )
    return write_report(report, page)
