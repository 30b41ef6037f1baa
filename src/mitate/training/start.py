"""The classifier that training starts from: pretrained weights, a file of them, or from scratch."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mitate import imports
from mitate.errors import ClassifierError, MitateWarning, WeightsError
from mitate.models.architecture import build
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing, Resize
from mitate.models.references import from_library
from mitate.models.trial import check_takes

HUB, SCRATCH = "hub", "none"


def start(
    model: str,
    weights: str | Path,
    class_names: Sequence[str],
    size: tuple[int, int],
    resize: Resize,
    seed: int,
    arguments: Mapping[str, Any],
) -> tuple[Classifier, bool]:
    """The classifier to train, and whether it is pretrained; the same seed gives the same one.

    Where the hub cannot be reached, or publishes no such weights, a warning says so and the
    classifier starts from scratch.

    Raises:
        WeightsError: weights of another architecture; UsageError: a size that the network cannot
        take.
    """
    model = model.removeprefix("timm:")
    fixed = {"img_size": list(size)} if _has_fixed_size(model) else {}
    arguments = {**fixed, **arguments}
    with seeded_weights(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*head.*made anew", category=MitateWarning)
        classifier = _from_weights(model, weights, class_names, arguments)
        pretrained = classifier is not None
        if classifier is None:
            classifier = _from_scratch(model, class_names, arguments)
    stats = classifier.preprocessing
    preprocessing = Preprocessing(size=size, resize=resize, mean=stats.mean, std=stats.std)
    classifier = replace(classifier, preprocessing=preprocessing)
    check_takes(classifier, size)
    return classifier, pretrained


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Seed what new weights are drawn from, on the CPU, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _from_weights(
    model: str, weights: str | Path, class_names: Sequence[str], arguments: Mapping[str, Any]
) -> Classifier | None:
    if weights == SCRATCH:
        return None
    if weights != HUB:
        return from_library("timm", model, Path(weights), class_names, **arguments)
    try:
        return from_library("timm", model, None, class_names, **arguments)
    except WeightsError:
        raise
    except ClassifierError as exc:
        why = str(exc).split(":")[0]
        if exc.__cause__ is not None:
            why = f"the hub with pretrained weights of {model} cannot be reached"
    warnings.warn(
        f"{why}: training from scratch, which needs more images and epochs (--weights FILE gives "
        "weights that you have)",
        MitateWarning,
        stacklevel=4,
    )
    return None


def _from_scratch(
    model: str, class_names: Sequence[str], arguments: Mapping[str, Any]
) -> Classifier:
    recipe = {
        "kind": "timm",
        "name": model,
        "arguments": {**arguments, "num_classes": len(class_names)},
    }
    classifier = Classifier.from_module(build(recipe).eval(), classes=list(class_names))
    return replace(classifier, recipe=recipe, provenance={"reference": f"timm:{model}"})


def _has_fixed_size(model: str) -> bool:
    config = imports.timm("models").get_pretrained_cfg(model, allow_unregistered=True)
    return bool(config and config.fixed_input_size)
