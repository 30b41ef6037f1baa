"""fastai Learners: their network, vocabulary, normalisation, size and resize method."""

from typing import Any

import torch

from mitate.errors import ClassifierError
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing, Resize

METHODS: dict[str, Resize] = {"squish": "squash", "crop": "crop", "pad": "pad"}


def from_learner(learner: Any) -> Classifier:
    """Wrap a Learner; see Classifier.from_learner."""
    loaders = getattr(learner, "dls", None)
    if loaders is None or not isinstance(getattr(learner, "model", None), torch.nn.Module):
        raise ClassifierError(
            f"a {type(learner).__name__} is no fastai Learner with data loaders: use "
            "Classifier.from_module for a plain network"
        )
    return Classifier(
        network=learner.model,
        class_names=_vocabulary(loaders),
        preprocessing=_preprocessing(loaders),
        provenance={"reference": "fastai Learner"},
        task="multi-label" if "BCE" in _loss_name(learner) else "single-label",
    )


def _loss_name(learner: Any) -> str:
    loss = getattr(learner, "loss_func", None)
    return f"{type(loss).__name__} {type(getattr(loss, 'func', None)).__name__}"


def is_learner(model: Any) -> bool:
    """Whether an object is a fastai Learner, without importing fastai."""
    return any(kind.__module__.startswith("fastai.") for kind in type(model).__mro__) and hasattr(
        model, "dls"
    )


def _vocabulary(loaders: Any) -> tuple[str, ...]:
    vocabulary = getattr(loaders, "vocab", None)
    if vocabulary is None:
        raise ClassifierError(
            "this Learner's data loaders have no vocabulary, so it is no classifier: use "
            "Classifier.from_module with classes="
        )
    if len(vocabulary) and isinstance(vocabulary[0], list | tuple) or _nested(vocabulary):
        vocabulary = vocabulary[-1]
    return tuple(str(name) for name in vocabulary)


def _nested(vocabulary: Any) -> bool:
    first = vocabulary[0] if len(vocabulary) else ""
    return not isinstance(first, str) and hasattr(first, "__len__")


def _preprocessing(loaders: Any) -> Preprocessing:
    mean, std = _normalisation(loaders)
    size, resize = _geometry(loaders)
    return Preprocessing(size=size, resize=resize, mean=mean, std=std)


def _normalisation(loaders: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for transform in _transforms(loaders, "after_batch"):
        if type(transform).__name__ == "Normalize":
            return (
                tuple(float(value) for value in transform.mean.flatten()),
                tuple(float(value) for value in transform.std.flatten()),
            )
    return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def _geometry(loaders: Any) -> tuple[tuple[int, int], Resize]:
    size: tuple[int, int] | None = None
    resize: Resize = "squash"
    for transform in _transforms(loaders, "after_item"):
        kind = type(transform).__name__
        if kind in ("CropPad", "RandomCrop"):
            raise ClassifierError(
                f"this Learner's {kind} cuts images without resizing them, which mitate's "
                "preprocessing cannot do: use Classifier.from_module(learn.model, preprocessing=…)"
            )
        if kind in ("Resize", "RandomResizedCrop"):
            width, height = transform.size
            size = (int(height), int(width))
            method = getattr(transform, "method", "crop")
            resize = METHODS.get(str(getattr(method, "value", method)), "crop")
    for transform in _transforms(loaders, "after_batch"):
        given = getattr(transform, "size", None)
        if given is not None:
            height, width = (given, given) if isinstance(given, int) else given
            size = (int(height), int(width))
    if size is None:
        raise ClassifierError(
            "this Learner does not resize its images, so their size is not known: use "
            "Classifier.from_module(learn.model, preprocessing=mitate.Preprocessing(size=...))"
        )
    return size, resize


def _transforms(loaders: Any, stage: str) -> list[Any]:
    pipeline = getattr(loaders.valid if hasattr(loaders, "valid") else loaders, stage, None)
    return list(getattr(pipeline, "fs", []))
