"""Whether a map lies on what the network itself segments: no mask is asked for.

It tells that two answers of one network agree, not that either is right.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.auditing.localisation import energy_share, rank_accuracy
from mitate.auditing.table import metric
from mitate.models.classifier import Classifier

HALF = 0.5  # from this probability on a pixel is drawn, as where Dice is told after training
NO_SEGMENTATION = (
    "compares maps with what the classifier itself segments, and this one segments nothing: train "
    "one with masks (mitate train --masks), or leave it out"
)


def segmented(
    classifier: Classifier, inputs: Float[Tensor, "b channels H W"], classes: Int[Tensor, " b"]
) -> Float[Tensor, "b H W"]:
    """What the classifier segments for a class of each image: 1 there and 0 elsewhere.

    With a region a class that is the class's region, and otherwise all regions as one. NaN
    throughout an image where the decoder gives what is not finite.

    Raises:
        ClassifierError: a classifier without a decoder.
    """
    likely = classifier.segment(inputs).float()
    if likely.shape[1] == len(classifier.class_names):
        every = torch.arange(len(likely), device=likely.device)
        likely = likely[every, classes.to(likely.device)][:, None]
    finite = likely.flatten(1).isfinite().all(1)
    return torch.where(finite[:, None, None], (likely >= HALF).any(1).float(), torch.nan)


@metric(
    "segmentation_energy",
    family="agreement",
    better="higher",
    range=(0, 1),
    cite="Wang et al. 2020, doi:10.1109/CVPRW50498.2020.00020 (of the predicted region)",
)
def segmentation_energy(
    maps: Float[Tensor, "b h w"], segmentation: Float[Tensor, "b H W"]
) -> Float[Tensor, " b"]:
    """Share of each map's energy on what the network itself segments.

    ``energy`` with the predicted region in the place of the true one. A segmentation of the whole
    picture gives every map and control 1, so that none beats another. NaN where nothing is
    segmented, what is segmented is not finite, or the map has no energy.
    """
    share: Tensor = energy_share(maps, segmentation)
    return share


@metric(
    "segmentation_rank_accuracy",
    family="agreement",
    better="higher",
    range=(0, 1),
    cite="Arras et al. 2022, doi:10.1016/j.inffus.2021.11.008 (of the predicted region)",
)
def segmentation_rank_accuracy(
    pixels: Float[Tensor, "b H W"], segmentation: Float[Tensor, "b H W"]
) -> Float[Tensor, " b"]:
    """Share of the map's highest pixels, as many as are segmented, that the network segments.

    ``rank_accuracy`` with the predicted region in the place of the true one. NaN where nothing is
    segmented, or what is segmented is not finite.
    """
    share: Tensor = rank_accuracy(pixels, segmentation)
    return share
