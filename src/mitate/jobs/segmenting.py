"""What a classifier with a decoder draws on photos, as panels of a figure."""

from collections.abc import Sequence

import numpy as np

from mitate.drawing.colour import tint
from mitate.drawing.layout import Panel
from mitate.jobs.photos import Shot
from mitate.models.classifier import Classifier

HALF = 0.5
LEAST = 0.0005  # which would be drawn and told as nothing
NOTHING = "nothing drawn"


def segmentation_panels(classifier: Classifier, shots: Sequence[Shot]) -> list[Panel]:
    """One panel a photo: the predicted regions over it, and how much of it each takes.

    None for a classifier without a decoder.
    """
    if classifier.decoder is None:
        return []
    inputs = classifier.inputs([shot.photo for shot in shots])
    drawn = classifier.segment(inputs).float().cpu().numpy()
    return [
        _panel(classifier, shot, shares, classifier.decoder.regions)
        for shot, shares in zip(shots, drawn, strict=True)
    ]


def _panel(classifier: Classifier, shot: Shot, shares: np.ndarray, regions: Sequence[str]) -> Panel:
    picture = tint(classifier.preprocessing.view(shot.photo), shares.max(0))
    areas = (shares >= HALF).mean((1, 2))
    largest = sorted(zip(areas, regions, strict=True), key=lambda found: -found[0])
    told = [f"{name} {_percent(area)}" for area, name in largest if area > 0]
    return Panel("segmentation", picture, ", ".join(told[:3]) or NOTHING)


def _percent(share: float) -> str:
    return "< 0.1 %" if share < LEAST else f"{100 * share:.1f} %"
