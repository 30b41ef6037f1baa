"""What an audit costs beside the forwards that it makes, and how long the default one takes.

python -m benchmarks.whole_audit [--quick]    prints a table

The default audit of 64 images at 128 px by a small ConvNeXt, and the same number of forwards, in
one process: the network called as it is, and as mitate runs it (fused where that is faster), each
in batches of 16 or of as many as the audit takes, whichever is faster. They are timed before, at
the start of and after the audit, ten rounds each time, by turns. An audit's time is a sum over
minutes, with all that else happens on the machine in it, so that the mean round is what it compares
with; the best round of each time stands beside it.
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
    ratios = [
        seconds / (forwards * fmean(part[kind][way] for part in shares))
        for way in range(2)
        for kind in range(2)
    ]
    maps = sum(not one.is_control for one in done.entrants)
    controls = len(done.entrants) - maps
    print(
        "| maps | controls | metrics | images | forwards | minutes | time / plain forwards, mean "
        "| best | time / mitate's own forwards, mean | best |"
    )
    print(f"|{' --- |' * 10}")
    print(
        f"| {maps} | {controls} | {len(done.metrics)} | {images} | {forwards:,.0f} "
        f"| {seconds / 60:.1f} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |"
    )


def _classifier() -> Classifier:
    torch.manual_seed(0)
    network = imports.timm().create_model("convnext_atto", num_classes=10).eval()
    return Classifier.from_module(network)


def _seconds_a_forward(
    classifier: Classifier, inputs: torch.Tensor, rounds: int = 10
) -> tuple[list[float], list[float]]:
    """An image's share of a batch's forward, plain and mitate's: the means, and the best."""

    def plain(batch: torch.Tensor) -> None:
        with torch.no_grad():
            classifier.network(batch)

    ways: tuple[Callable[[torch.Tensor], object], ...] = (plain, classifier.logits)
    works = [(way, inputs[:size]) for way in ways for size in sorted({BATCH, batch_for(inputs)})]
    found: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for times, (way, batch) in zip(found, works, strict=True):
            begun = time.perf_counter()
            way(batch)
            if number:
                times.append((time.perf_counter() - begun) / len(batch))
    sizes = len(works) // len(ways)
    by_way = [found[at : at + sizes] for at in range(0, len(works), sizes)]
    return [min(map(fmean, times)) for times in by_way], [min(map(min, times)) for times in by_way]


if __name__ == "__main__":
    main(quick="--quick" in sys.argv[1:])
