"""What is explained: which classes of which image."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import TargetError

Targets = Tensor | Sequence[int] | Sequence[Sequence[int]]


def choose_classes(
    logits: Float[Tensor, "b n"],
    *,
    top_k: int,
    targets: Targets | None = None,
) -> Int[Tensor, "b k"]:
    """Give the classes to explain: the ``top_k`` most probable, or ``targets`` as they were given.

    ``targets`` holds one class an image, or a list of several (as many for every image).

    Raises:
        TargetError: k or a class out of range, or another number of targets than images.
    """
    images, classes = logits.shape
    if targets is None:
        if not 1 <= top_k <= classes:
            raise TargetError(
                f"top_k is {top_k} and the classifier has {classes} classes: "
                f"use a number from 1 to {classes}"
            )
        return logits.topk(top_k, dim=1).indices
    return _checked(targets, images, classes).to(logits.device)


def _checked(targets: Targets, images: int, classes: int) -> Int[Tensor, "b k"]:
    if len(targets) != images:
        raise TargetError(
            f"{len(targets)} target(s) for {images} image(s): give one class an image, "
            "or one list of classes an image"
        )
    try:
        chosen = torch.as_tensor(targets)
    except (ValueError, TypeError) as exc:
        raise TargetError(
            "targets must be class indices, the same number for every image"
        ) from exc
    if chosen.is_floating_point() or chosen.dtype == torch.bool or chosen.ndim not in (1, 2):
        raise TargetError("targets must be whole numbers: one class an image, or a list an image")
    if chosen.numel() == 0:
        raise TargetError("targets are empty: name at least one class an image")
    if int(chosen.min()) < 0 or int(chosen.max()) >= classes:
        raise TargetError(
            f"targets go from {int(chosen.min())} to {int(chosen.max())} and the classifier has "
            f"{classes} classes: use 0 to {classes - 1}"
        )
    return chosen.long().reshape(images, -1)
