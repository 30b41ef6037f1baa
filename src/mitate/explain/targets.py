"""What is explained: which classes of which image, and which class is the true one."""

from collections.abc import Sequence
from difflib import get_close_matches
from operator import index
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import TargetError

Class = int | str
Targets = Tensor | Class | Sequence[Class] | Sequence[Sequence[Class]]
Labels = Sequence[int | str | None]
TOP_K = 3
UNKNOWN = -1


def top_classes(logits: Float[Tensor, "b n"], top_k: int | None = None) -> Int[Tensor, "b k"]:
    """The ``top_k`` most probable classes, most probable first; None takes 3, or all of fewer."""
    return logits.topk(checked_top_k(top_k, logits.shape[1]), dim=1).indices


def checked_top_k(top_k: int | None, classes: int) -> int:
    """How many classes to explain; None takes 3, or all of fewer.

    Raises:
        TargetError: less than 1 or more than there are classes.
    """
    if top_k is None:
        return min(TOP_K, classes)
    whole = isinstance(top_k, int | np.integer) and not isinstance(top_k, bool)
    if not whole or not 1 <= top_k <= classes:
        raise TargetError(
            f"top_k is {top_k} and the classifier has {classes} classes: "
            f"use a whole number from 1 to {classes}"
        )
    return top_k


def checked_targets(
    targets: Targets, images: int, class_names: Sequence[str]
) -> Int[Tensor, "b k"]:
    """Targets as indices: a class for all images, one an image, or a list of several an image.

    Lists are as long for every image; a class is told by its name or its index.

    Raises:
        TargetError: another number of targets than images, ragged lists, no or unknown classes.
    """
    classes = len(class_names)
    try:
        chosen = torch.as_tensor(_numbered(targets, class_names))
    except (ValueError, TypeError, RuntimeError) as exc:
        raise TargetError(
            "targets must be class indices or names, the same number for every image"
        ) from exc
    whole = not (chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool)
    if chosen.numel() == 0:
        raise TargetError("targets are empty: name at least one class an image")
    if not whole or chosen.ndim > 2:
        raise TargetError("targets must be whole numbers: one class an image, or a list an image")
    if chosen.ndim == 0:
        chosen = chosen.expand(images)
    if len(chosen) != images:
        raise TargetError(
            f"{len(chosen)} target(s) for {images} image(s): give one class for all, one an "
            "image, or one list of classes an image"
        )
    low, high = int(chosen.min()), int(chosen.max())
    if low < 0 or high >= classes:
        raise TargetError(
            f"targets go from {low} to {high} and the classifier has {classes} classes: use 0 to "
            f"{classes - 1}"
        )
    return chosen.long().reshape(images, -1)


def _numbered(targets: Any, class_names: Sequence[str]) -> Any:
    """The same with indices in the place of names."""
    if isinstance(targets, str):
        return _named(targets, class_names)
    if isinstance(targets, list | tuple):
        return [_numbered(target, class_names) for target in targets]
    return targets


def label_indices(
    labels: Labels | None, images: int, class_names: Sequence[str]
) -> tuple[int, ...]:
    """True classes as indices, -1 where None; nothing where no labels are given.

    Raises:
        TargetError: another number of labels than images, or a label that is no class.
    """
    if labels is None:
        return ()
    if isinstance(labels, str) or len(labels) != images:
        number = 1 if isinstance(labels, str) else len(labels)
        raise TargetError(f"{number} label(s) for {images} image(s): give one an image")
    return tuple(_label_index(label, class_names) for label in labels)


def label_targets(labels: Sequence[int]) -> list[int]:
    """The classes that ``targets="label"`` means.

    Raises:
        TargetError: an image without a label.
    """
    if not labels or UNKNOWN in labels:
        raise TargetError("targets='label' needs labels=, a class for every image")
    return list(labels)


def _label_index(label: int | str | None, class_names: Sequence[str]) -> int:
    if label is None:
        return UNKNOWN
    if isinstance(label, str):
        return _named(label, class_names)
    try:
        number = index(label)
    except TypeError as exc:
        raise TargetError(f"label {label!r} is neither a class name nor an index") from exc
    if not 0 <= number < len(class_names):
        raise TargetError(
            f"label {number} is out of range: use 0 to {len(class_names) - 1}, or None where the "
            "class is not known"
        )
    return number


def _named(label: str, class_names: Sequence[str]) -> int:
    found = [number for number, name in enumerate(class_names) if name == label]
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(
            f"{label!r} is the name of classes {', '.join(map(str, found))}: give the index"
        )
    near = get_close_matches(label, class_names, n=3, cutoff=0.5)
    known = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(class_names[:8])}"
    raise TargetError(f"{label!r} is no class of this classifier: {known}")
