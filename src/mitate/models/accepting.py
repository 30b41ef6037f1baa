"""A Classifier of whatever stands for one: a module, a Learner, a reference."""

from pathlib import Path
from typing import Any

from torch import nn

from mitate.errors import UsageError
from mitate.models.classifier import Classifier
from mitate.models.learners import from_learner, is_learner


def as_classifier(model: Any) -> Classifier:
    """A Classifier of whatever stands for one.

    Raises:
        UsageError: an object that is no classifier.
    """
    if isinstance(model, Classifier):
        return model
    if isinstance(model, nn.Module):
        return Classifier.from_module(model)
    if isinstance(model, str | Path):
        return Classifier.load(model)
    if is_learner(model):
        return from_learner(model)
    raise UsageError(
        f"a {type(model).__name__} is no classifier: give a module, a mitate.Classifier, a fastai "
        "Learner, or a reference such as timm:NAME@WEIGHTS or hf:ORG/NAME"
    )
