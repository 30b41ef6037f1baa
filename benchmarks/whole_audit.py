"""What an audit costs beside the forwards that it makes, and how long the default one takes.

python -m benchmarks.whole_audit [--quick]    prints a table

The default audit of 64 images at 128 px by a small ConvNeXt, and the same number of forwards, in
one process: the network called as it is, and as mitate runs it (fused where that is faster), each
in batches of 16 or of as many as the audit takes, whichever is faster. Their time is the mean of
what it was before, at the start of and after the audit, each time the best of ten, by turns.
"""

import sys
import time
from collections.abc import Callable
from statistics import fmean
from typing import Any

import torch

from mitate import Classifier, audit, imports
from mitate.models.mode import batch_for

IMAGES, PIXELS, BATCH = 64, 128, 16


def main(*, quick: bool = False) -> None:
    """Print seconds, forwards, and the time over that of the pure forwards."""
    classifier = _classifier()
    generator = torch.Generator().manual_seed(0)
    images = 6 if quick else IMAGES
    inputs = torch.randn(images, 3, PIXELS, PIXELS, generator=generator)
    labels = [number % 10 for number in range(images)]
    masks = torch.zeros(images, PIXELS, PIXELS)
    masks[:, 40:60, 50:80] = 1
    shares, aside = [_seconds_a_forward(classifier, inputs)], 0.0

    def tell(_words: str) -> None:
        nonlocal aside
        paused = time.perf_counter()
        shares.append(_seconds_a_forward(classifier, inputs))
        aside += time.perf_counter() - paused

    settings: dict[str, Any] = {"methods": ["gradcam"], "layers": ["auto"]} if quick else {}
    begun = time.perf_counter()
    done = audit(classifier, inputs, masks=masks, labels=labels, reasons=0, tell=tell, **settings)
    seconds = time.perf_counter() - begun - aside
    shares.append(_seconds_a_forward(classifier, inputs))
    forwards = done.course.forwards + (done.usage.forwards if done.usage else 0)
    plain, own = (seconds / (forwards * fmean(each)) for each in zip(*shares, strict=True))
    maps = sum(not one.is_control for one in done.entrants)
    controls = len(done.entrants) - maps
    print(
        "| maps | controls | metrics | images | forwards | minutes | time / plain forwards "
        "| time / mitate's own forwards |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {maps} | {controls} | {len(done.metrics)} | {images} | {forwards:,.0f} "
        f"| {seconds / 60:.1f} | {plain:.2f} | {own:.2f} |"
    )


def _classifier() -> Classifier:
    torch.manual_seed(0)
    network = imports.timm().create_model("convnext_atto", num_classes=10).eval()
    return Classifier.from_module(network)


def _seconds_a_forward(
    classifier: Classifier, inputs: torch.Tensor, rounds: int = 10
) -> tuple[float, float]:
    """An image's share of a batch's forward, plain and mitate's, the best of some rounds."""
    batches = [inputs[:size] for size in {BATCH, batch_for(inputs)}]

    def plain(batch: torch.Tensor) -> None:
        with torch.no_grad():
            classifier.network(batch)

    ways: tuple[Callable[[torch.Tensor], object], ...] = (plain, classifier.logits)
    best = [float("inf")] * len(ways)
    for number in range(rounds + 1):
        for place, run in enumerate(ways):
            for batch in batches:
                begun = time.perf_counter()
                run(batch)
                if number:
                    best[place] = min(best[place], (time.perf_counter() - begun) / len(batch))
    return best[0], best[1]


if __name__ == "__main__":
    main(quick="--quick" in sys.argv[1:])
