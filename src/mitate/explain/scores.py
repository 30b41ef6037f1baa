"""What a network's scores must be like: one for each class, and logits."""

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.errors import TargetError, UsageError
from mitate.explain.methods import Method
from mitate.explain.outputs import ONE_EACH
from mitate.models.classifier import Classifier
from mitate.tensors import at_least_single

ONE_OF_TWO = (
    "the network gives 1 score, and there are 2 classes: name the one that it speaks for alone, or "
    "both with output=lambda logit: torch.cat([torch.zeros_like(logit), logit], dim=1)"
)
PROBABILITIES = (
    "the network's scores are not negative and add up to 1, as if a softmax had made probabilities "
    "of them already: they are taken for logits, and maps of them fade where the network is sure. "
    "Leave out the softmax, or give Classifier.from_module(network, "
    "output=lambda p: p.clamp_min(1e-12).log())"
)
NEAR_ONE, ROUNDINGS = 1e-5, 8  # of half precision so many of its own


def check_scores(logits: Float[Tensor, "b n"], classifier: Classifier, images: int) -> None:
    """Refuse scores that are not one for each image and class.

    Raises:
        TargetError: as many images were not scored; UsageError: there are more or fewer classes.
    """
    number, classes = logits.shape
    if number != images:
        raise TargetError(f"there are {number} scores for a batch of {images}: {ONE_EACH}")
    names = classifier.class_names
    if len(names) == classes:
        return
    if (classes, len(names)) == (1, 2):
        raise UsageError(ONE_OF_TWO)
    guessed = classifier.provenance.get("guessed_classes")
    told = "by its last linear layer there are" if guessed else "there are"
    raise UsageError(
        f"the network gives {classes} scores, and {told} {len(names)} classes: pass "
        f"classes= with {classes} names, or output= where the scores are elsewhere"
    )


def seem_probabilities(
    logits: Float[Tensor, "b n"], classifier: Classifier, method: Method
) -> bool:
    """Whether a softmax seems to have been through the scores that a method looks at."""
    if classifier.task != "single-label" or not method.looks_at_scores:
        return False
    if not logits.is_floating_point():
        return False
    apart = (at_least_single(logits).sum(1) - 1).abs().max()
    rounding = max(NEAR_ONE, ROUNDINGS * torch.finfo(logits.dtype).eps)
    return bool((logits >= 0).all()) and float(apart) < rounding
