"""Score-CAM to a tolerance beside exact Score-CAM: what it costs, how near it comes, what it tells.

python -m benchmarks.anytime WEIGHTS PHOTOS [--photos N] [--quick]

WEIGHTS holds mobilenetv2_100.imagenet1k.safetensors and squeezenet1_0.imagenet1k.pth, PHOTOS is a
folder of them. The method's constants were chosen on some of every tenth photo of this folder (by
name, from the first) and on the fourth, which are left out here. Each channel is scored once; all
tolerances are then tried on these scores. Writes benchmarks/ANYTIME.md.
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mitate import Classifier, Explainer, Preprocessing
from mitate.explain.estimating.anytime import correlation
from mitate.explain.methods import METHODS
from mitate.progress import progress
from mitate.tensors import generators, varies

MOBILENET = "timm:mobilenetv2_100@{}/mobilenetv2_100.imagenet1k.safetensors"
SQUEEZENET = "torchvision:squeezenet1_0@{}/squeezenet1_0.imagenet1k.pth"
Case = tuple[str, str, str]  # a reference, a layer, and what it is
CASES: tuple[Case, ...] = (
    (MOBILENET, "bn2", "last, ReLU6"),
    (SQUEEZENET, "features.12", "last, ReLU"),
    (MOBILENET, "blocks.6", "last block, signed"),
    (SQUEEZENET, "features.7", "middle, ReLU"),
    (MOBILENET, "blocks.4", "middle, signed"),
)
QUICK = (4,)
TOLERANCES = (0.05, 0.02, 0.01)
TUNED_ON, ALSO = 10, 3  # one photo in so many, and this one
RESULTS = Path(__file__).parent / "ANYTIME.md"
COLUMNS = (
    "network",
    "layer",
    "tolerance",
    "correlation: mean",
    "worst",
    "cost share: mean",
    "worst",
    "images gone on to the end",
    "error within the told one",
)


@dataclass
class Replay:
    """A scorer that knows every score beforehand."""

    images: Tensor
    classes: Tensor
    task: str
    known: Tensor

    def probabilities(self, _: Tensor, wanted: Tensor) -> Tensor:
        """The known probabilities of the wanted channels."""
        return torch.where(wanted[..., None], self.known, 0)

    def own_logits(self) -> Tensor:
        """Not used for probabilities."""
        return torch.zeros_like(self.classes, dtype=torch.float32)


@dataclass
class Tally:
    """What was seen of one case at one tolerance, over photos."""

    correlations: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)
    within: list[bool] = field(default_factory=list)

    def add(self, exact: Tensor, maps: Tensor, estimate: Any) -> None:
        """Count the maps of one photo; those that are exact are not counted as well foretold."""
        found = correlation(maps.flatten(2).double(), exact.flatten(2).double())
        self.correlations += found.flatten().tolist()
        self.shares += ((1 + estimate.scored) / (1 + estimate.channels)).tolist()
        self.ended += (estimate.scored == estimate.channels).tolist()
        if not self.ended[-1]:
            self.within += (1 - found <= estimate.error).flatten().tolist()

    def cells(self) -> Iterator[str]:
        """The figures, as COLUMNS names them."""
        for values, worst in ((self.correlations, min), (self.shares, max)):
            yield f"{sum(values) / len(values):.4f}"
            yield f"{worst(values):.4f}"
        yield f"{sum(self.ended)} of {len(self.ended)}"
        kept, number = sum(self.within), len(self.within)
        yield f"{kept} of {number} maps ({100 * kept / number:.0f} %)" if number else "none told"


def measured(classifier: Classifier, layer: str, photos: Sequence[Path]) -> dict[float, Tally]:
    """Explain photos exactly, then to each tolerance from the same scores."""
    tallies = {tolerance: Tally() for tolerance in TOLERANCES}
    method = METHODS["scorecam"]

    def function(activations: Tensor, scorer: Any, _: Any, **options: Any) -> Tensor:
        live = varies(activations)
        replay = Replay(
            scorer.images, scorer.classes, scorer.task, scorer.probabilities(activations, live)
        )
        evidence = activations, replay
        exact: Tensor = method.function(*evidence, None, **options)
        for tolerance, tally in tallies.items():
            drawn = generators(0, list(scorer.images))
            made = method.function(*evidence, drawn, **{**options, "tolerance": tolerance})
            tally.add(exact, *made)
        return exact

    explainer = Explainer(classifier, "scorecam", layer, batch_size=32, show_progress=False)
    explainer.method = replace(method, function=function)
    with progress(layer, len(photos)) as advance:
        for photo in photos:
            explainer(photo, 3)
            advance(1)
    return tallies


def lines(weights: Path, photos: Sequence[Path], cases: Sequence[Case]) -> Iterator[str]:
    """The page, a line at a time."""
    yield "# Score-CAM to a tolerance"
    yield ""
    yield "Written by `make bench-anytime`. Top 3 classes of each of"
    yield f"{len(photos)} photos that the method was not tuned on. The cost is that of exact"
    yield "Score-CAM without dead channels. Maps of images that went on to the end are exact; they"
    yield "are not counted in the last column."
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "| " + " | ".join("---" for _ in COLUMNS) + " |"
    for reference, layer, kind in cases:
        classifier = Classifier.load(reference.format(weights))
        whole = Preprocessing(size=(224, 224))
        classifier = Classifier.from_module(classifier.network, preprocessing=whole)
        for tolerance, tally in measured(classifier, layer, photos).items():
            name = reference.split(":")[1].split("@")[0]
            yield f"| {name} | `{layer}` ({kind}) | {tolerance} | {' | '.join(tally.cells())} |"


def main() -> None:
    """Run every case and write the page; ``--quick`` tries one case on two photos."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anytime")
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    every = sorted(path for path in given.folder.iterdir() if path.suffix in (".jpg", ".png"))
    untuned = [photo for i, photo in enumerate(every) if i % TUNED_ON and i != ALSO]
    number = 2 if given.quick else min(given.photos, len(untuned))
    photos = [untuned[i * len(untuned) // number] for i in range(number)]
    cases = [CASES[i] for i in QUICK] if given.quick else CASES
    warnings.simplefilter("ignore")
    page = []
    for line in lines(given.weights, photos, cases):
        print(line, flush=True)
        page.append(line)
    if not given.quick:
        RESULTS.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
