"""What each part of loupe is worth: one part changed at a time, on the same photos.

python -m benchmarks.loupe_ablation CLASSIFIER DATA MASK_VALUE [SPLIT]
    [--photos N] [--only NAME ...]

Develop on the training split: the table of docs/loupe.md is of the validation split once.
"""

import argparse
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.small_things import _named, _opened, measured
from mitate import Explainer
from mitate.auditing.intervals import mean_interval
from mitate.explain.methods import loupe, small
from mitate.explain.scorer import Scorer
from mitate.imputing import impute

COLUMNS = ("share", "first 20 %", "insertion", "cost")


def even(pyramid: Any) -> Tensor:
    """A start that knows nothing."""
    return torch.ones_like(AGREEMENT(pyramid))


def grey(images: Tensor) -> Tensor:
    """The image's mean colour in the place of the blur."""
    return images.mean((-2, -1), keepdim=True).expand_as(images)


def plain(masks: Tensor, level: float) -> Tensor:
    """The mask itself in the place of its level sets."""
    return masks


def noisy(scorer: Scorer, pictures: Tensor) -> Tensor:
    """The network on pictures with noise of a deviation of 0.1 of preprocessed values."""
    return RUN(scorer, pictures + 0.1 * torch.randn(pictures.shape))


def inpainted(scorer: Scorer, owners: Tensor, masks: Tensor, behind: Tensor) -> Tensor:
    """What is hidden, by half or more, is imputed from what is left around it, at every step."""
    images = scorer.images.clone()
    images[owners] = impute(scorer.images[owners], masks[:, 0].detach() < 0.5)
    return MASKED(scorer, owners, masks, images)


def unsmoothed(slopes: Tensor) -> Tensor:
    """Slopes of single cells."""
    return slopes


AGREEMENT, RUN, MASKED = small.agreement, Scorer._run, Scorer.masked_logits
VARIANTS: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "loupe": ({}, {}),
    "no start": ({}, {"agreement": even}),
    "no level sets": ({}, {"level_set": plain}),
    "slopes not smoothed": ({}, {"smoothed": unsmoothed}),
    "one price, 20": ({}, {"CHEAP": 20.0, "DEAR": 20.0}),
    "prices 2 to 40": ({}, {"DEAR": 40.0}),
    "prices 4 to 80": ({}, {"CHEAP": 4.0, "DEAR": 80.0}),
    "rate 0.1": ({}, {"RATE": 0.1}),
    "no showing": ({}, {"HIDING": 2.0}),
    "mean colour for the blur": ({}, {"blurred": grey}),
    "inpainted for both": ({}, {"masked_logits": inpainted}),
    "noise on the input": ({}, {"_run": noisy}),
    "the cube of the mean": ({}, {"POWER": 3}),
    "32 cells": ({"cells": 32}, {}),
    "64 cells": ({"cells": 64}, {}),
    "20 steps": ({"steps": 20}, {}),
    "120 steps": ({"steps": 120}, {}),
}


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("named", nargs="+", metavar="CLASSIFIER DATA MASK_VALUE [SPLIT]")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    given = parser.parse_args()
    torch.manual_seed(0)
    print("\n".join(table(given.named, given.photos, given.only)))


def table(words: Sequence[str], number: int, names: Sequence[str]) -> Iterator[str]:
    """One row a variant."""
    photos = _named(*words)
    inputs, masks = _opened(photos, number)
    yield f"{photos.title}, {len(inputs)} photos"
    yield ""
    yield f"| | {' | '.join(COLUMNS)} |"
    yield f"| --- |{' --- |' * len(COLUMNS)}"
    for name in names:
        options, parts = VARIANTS[name]
        with ExitStack() as stack:
            for part, value in parts.items():
                owner = Scorer if hasattr(Scorer, part) else loupe
                stack.enter_context(patch.object(owner, part, value))
            explainer = Explainer(photos.classifier, "loupe", show_progress=False, **options)
            made = explainer(inputs, top_k=1)
        found = measured(photos.classifier, inputs, made.maps[:, 0], masks, made.cost)
        cells = (f"{mean_interval(found[column]).mean:.3f}" for column in COLUMNS)
        yield f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
