"""What metrics cost over the forwards that they need, beside Quantus.

python -m benchmarks.audit [--quick]    prints the tables

Every figure is a ratio of times in one process. A metric's time is set beside the forwards that it
made, counted, times one image's share of the best batched forward: a metric is not the worse for
making more of them. A new map counts three.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import best_seconds
from mitate import Classifier, Explainer, imports
from mitate.auditing.measuring import measure, planned_forwards
from mitate.auditing.table import DEFAULT_METRICS, METRICS
from mitate.tensors import resize_maps

LAYER = "stages.2"
METHODS = ("gradcam", "hirescam", "layercam", "random", "centre", "edges")
ALONE = (
    "deletion",
    "road",
    "faithfulness_correlation",
    "infidelity",
    "max_sensitivity",
    "efficient_randomisation",
    "cascading_randomisation",
)
EXPLAINING = {
    *(name for name in ALONE if METRICS[name].explains_again),
    "Quantus MaxSensitivity",
    "Quantus EfficientMPRT",
}
STEPS = 16  # of Quantus's pixel flipping, where it is given as many forwards as deletion has


class Counted(nn.Module):
    """Counts the images that the network sees; a copy of it counts into the same list."""

    def __init__(self, network: nn.Module, seen: list[int]) -> None:
        super().__init__()
        self.inner, self.seen = network, seen

    def __deepcopy__(self, memo: dict[int, Any]) -> "Counted":
        from copy import deepcopy

        return Counted(deepcopy(self.inner, memo), self.seen).train(self.training)

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        output: Tensor = self.inner(images)
        return output


@dataclass
class Case:
    """Images of one classifier, and their maps."""

    classifier: Classifier
    seen: list[int]
    images: Tensor
    classes: Tensor
    masks: Tensor
    explainers: dict[str, Explainer]
    maps: dict[str, Tensor]

    @classmethod
    def made(cls, images: int, size: int) -> "Case":
        """A small ConvNeXt with random weights, on noise."""
        generator, seen = torch.Generator().manual_seed(0), list[int]()
        network = imports.timm().create_model("convnext_atto", num_classes=10).eval()
        classifier = Classifier.from_module(Counted(network, seen).eval(), classes=10)
        inputs = torch.randn(images, 3, size, size, generator=generator)
        masks = torch.zeros(images, size, size)
        masks[:, size // 4 : size // 2, size // 4 : size // 2] = 1
        classes = classifier.logits(inputs).argmax(1)
        explainers = {
            name: Explainer(classifier, name, f"inner.{LAYER}", show_progress=False)
            for name in METHODS
        }
        maps = {
            name: explainer(inputs, targets=classes).maps[:, 0]
            for name, explainer in explainers.items()
        }
        return cls(classifier, seen, inputs, classes, masks, explainers, maps)

    def measure(self, metrics: tuple[str, ...], contenders: tuple[str, ...] = ("gradcam",)) -> None:
        """Run metrics of some contenders."""
        measure(
            self.classifier,
            self.images,
            self.classes,
            {name: self.maps[name] for name in contenders},
            metrics,
            masks=self.masks,
            explainers=self.explainers,
        )

    def one_by_one(self) -> None:
        """Run each metric of the default audit of each contender by itself."""
        for name in METHODS:
            for metric in DEFAULT_METRICS:
                self.measure((metric,), (name,))

    def forwards(self, work: Callable[[], object]) -> int:
        """How many images the network sees."""
        self.seen.clear()
        work()
        return sum(self.seen)


def main() -> None:
    """Print both tables."""
    warnings.simplefilter("ignore")
    quick = "--quick" in sys.argv
    case = Case.made(2 if quick else 8, 64 if quick else 128)
    rounds = 1 if quick else 3
    share = min(
        seconds / len(batch)
        for batch in (case.images.repeat_interleave(times, 0) for times in (1, 2, 4))
        for seconds in best_seconds({"": partial(case.classifier.logits, batch)}, 5).values()
    )
    print("\n".join([*default_audit(case, share, rounds), "", *alone(case, share, rounds)]))


def default_audit(case: Case, share: float, rounds: int) -> Iterator[str]:
    """The twelve default metrics of six contenders, together and one by one."""
    works: dict[str, Callable[[], object]] = {
        "together": partial(case.measure, DEFAULT_METRICS, METHODS),
        "one by one": case.one_by_one,
    }
    seconds = best_seconds(works, rounds)
    images, number = len(case.images), len(METHODS)
    together = planned_forwards(DEFAULT_METRICS, number)
    single = number * sum(planned_forwards([name], 1) for name in DEFAULT_METRICS)
    yield f"The default audit: {len(DEFAULT_METRICS)} metrics, {number} contenders, {images} images"
    yield ""
    yield "| | ratio | at most |"
    yield "| --- | --- | --- |"
    cost = seconds["together"] / (together * images * share)
    yield f"| time over its forward-equivalents | {cost:.2f} | 1.1 |"
    yield f"| forwards over those of its metrics one by one | {together / single:.2f} | 0.5 |"
    shared = seconds["together"] / seconds["one by one"]
    yield f"| time over that of its metrics one by one | {shared:.2f} | 0.5 |"


def alone(case: Case, share: float, rounds: int) -> Iterator[str]:
    """Single metrics, and Quantus's where it has them and runs."""
    mine: dict[str, Callable[[], object]] = {name: partial(case.measure, (name,)) for name in ALONE}
    theirs = quantus_works(case)
    seconds = best_seconds({**mine, **theirs}, rounds)
    yield f"Time over the forwards that each made, {len(case.images)} images"
    yield ""
    yield "| | ratio | forwards an image | seconds an image |"
    yield "| --- | --- | --- | --- |"
    for name, work in {**mine, **theirs}.items():
        made = case.forwards(work)
        passes = made * (3 if name in EXPLAINING else 1)
        ratio = seconds[name] / (passes * share)
        each = len(case.images)
        yield f"| {name} | {ratio:.2f} | {made / each:.0f} | {seconds[name] / each:.2f} |"


def quantus_works(case: Case) -> dict[str, Callable[[], object]]:
    """Quantus's metrics on the same images and maps, as many forwards as here where it can."""
    import quantus

    pixels = case.images[0, 0].numel()
    plain: dict[str, Any] = {"disable_warnings": True, "return_aggregate": False}
    metrics = {
        "Quantus PixelFlipping": quantus.PixelFlipping(
            features_in_step=pixels // STEPS, perturb_baseline="mean", **plain
        ),
        "Quantus FaithfulnessCorrelation": quantus.FaithfulnessCorrelation(
            nr_runs=64, perturb_baseline="mean", **plain
        ),
        "Quantus MaxSensitivity": quantus.MaxSensitivity(nr_samples=8, **plain),
        "Quantus EfficientMPRT": quantus.EfficientMPRT(**plain),
    }
    return {name: partial(_run, case, metric) for name, metric in metrics.items()}


def _run(case: Case, metric: Any) -> object:
    size = case.images.shape[-2:]
    maps = resize_maps(case.maps["gradcam"][:, None], size).numpy()
    return metric(
        model=case.classifier.network,
        x_batch=case.images.numpy(),
        y_batch=case.classes.numpy(),
        a_batch=maps,
        device="cpu",
        explain_func=_explained,
    )


def _explained(model: nn.Module, inputs: Any, targets: Any, **_: object) -> np.ndarray:
    """Grad-CAM by mitate, for Quantus, whose model may be a copy with random weights."""
    classifier = Classifier.from_module(model, classes=10)
    images = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
    explainer = Explainer(classifier, "gradcam", f"inner.{LAYER}", show_progress=False)
    classes = torch.as_tensor(np.asarray(targets)).long()
    return explainer(images, targets=classes).resize().numpy()


if __name__ == "__main__":
    main()
