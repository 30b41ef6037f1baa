"""Confused pairs: what speaks for the class that was decided, and against the true one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from mitate.auditing.intervals import Interval, mean_interval
from mitate.auditing.localisation import energy_share
from mitate.auditing.reasons.evidence import batches, shares
from mitate.auditing.reasons.numbers import interval_data, number_data, percent
from mitate.auditing.reasons.photos import Images, images_of
from mitate.auditing.reasons.places import Place, border_share, place_of
from mitate.auditing.reasons.regions import hot_region, peaks_in
from mitate.data.masks import Masks
from mitate.data.records import Record
from mitate.data.wording import counted
from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.inputs import prepare
from mitate.explain.targets import UNKNOWN, Labels
from mitate.models.classifier import Classifier
from mitate.models.mode import USUAL_BATCH
from mitate.progress import progress

CONTRASTIVE = "hirescam"


@dataclass(frozen=True, eq=False)
class ConfusedPair:
    """The images of one class that are decided to be another.

    Attributes:
        true: the class that they are of.
        predicted: the class that they are decided to be.
        members: numbers of the images, the surest first.
        names: of the members.
        share: of the images of the true class.
        mapped: how many of them have a map.
        heat: the mean of the contrastive maps, each as shares of its sum; NaN where none has any.
        region: the pixels around the peak of ``heat``; empty where nothing stands out.
        place: the part of the image that the region takes; None of an empty one.
        peaks: share of the maps that have their peak in the region.
        border: share of the heat on the frame of an eighth of the side.
        outside: share of the heat outside the masks; None without masks.
        picture: what the network saw of the surest error; None where that cannot be told.
        method: of the maps.
        layer: that they were made at.
    """

    true: str
    predicted: str
    members: tuple[int, ...]
    names: tuple[str, ...]
    share: float
    mapped: int
    heat: Float[np.ndarray, "h w"]
    region: Bool[np.ndarray, "H W"]
    place: Place | None
    peaks: float
    border: float
    outside: Interval | None
    picture: Image.Image | None
    method: str
    layer: str

    @property
    def words(self) -> str:
        """What was found, as one sentence."""
        images = counted(len(self.members), "image")
        said = f"{percent(self.share)} of {self.true!r} ({images}) is taken for {self.predicted!r}"
        if self.place is None:
            return f"{said}; no part of the maps stands out"
        return (
            f"{said}; what speaks for it and against {self.true!r} is hottest in "
            f"{self.place.name}, where {percent(self.peaks)} of the maps have their peak"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: no maps and no pictures; what is no number is None."""
        return {
            "true": self.true,
            "predicted": self.predicted,
            "images": len(self.members),
            "share": number_data(self.share),
            "mapped": self.mapped,
            "place": self.place and self.place.name,
            "peaks": number_data(self.peaks),
            "border": number_data(self.border),
            "outside": interval_data(self.outside),
            "method": self.method,
            "layer": self.layer,
            "words": self.words,
            "members": list(self.names),
        }


def confused_pairs(
    classifier: Classifier,
    photos: Sequence[Record] | Tensor,
    explainer: Explainer,
    *,
    labels: Labels | None = None,
    masks: Masks | Tensor | None = None,
    mask_value: int | None = None,
    root: Path | None = None,
    top: int = 3,
    batch_size: int = USUAL_BATCH,
    shown: bool = True,
) -> tuple[ConfusedPair, ...]:
    """Explain the largest cells of the confusion matrix: why this class and not the true one.

    The maps are of the decided class's logit less the true one's, by the explainer's method at its
    layers, or by HiResCAM where that method is not one of gradients.

    Args:
        classifier: what is looked into.
        photos: records, or one preprocessed tensor (n, channels, H, W).
        explainer: tells the method and the layer.
        labels: true classes; records have their own.
        masks: the true regions, as for ``find_reasons``.
        mask_value: the value of index masks that marks the region.
        root: the folder from which records are named; None names them as they were given.
        top: how many cells; fewer where fewer pairs of classes are confused.
        batch_size: images in one forward.
        shown: show progress.

    Raises:
        UsageError: ``top`` below 1, no label, values instead of classes, or masks that do not fit;
        TargetError: labels that do not fit.
    """
    if top < 1:
        raise UsageError(f"top is {top}: use 1 or more")
    if classifier.task == "regression":
        raise UsageError("pairs of classes are confused, and this network gives values")
    images = images_of(
        classifier, photos, labels=labels, masks=masks, mask_value=mask_value, root=root
    )
    if set(images.labels) <= {UNKNOWN}:
        raise UsageError("confusions need true classes: give labels, or records that have them")
    with progress("looking for confused pairs", len(photos), shown=shown) as advance:
        surest: dict[tuple[int, int], dict[int, float]] = {}
        for chosen in batches(range(len(photos)), batch_size):
            for number, decided, sure in _errors(classifier, images, chosen):
                surest.setdefault((images.labels[number], decided), {})[number] = sure
            advance(len(chosen))
    largest = sorted(surest, key=lambda cell: (-len(surest[cell]), cell))[:top]
    of_class = Counter(images.labels)
    return tuple(
        _pair(
            explainer, images, cell, surest[cell], of_class[cell[0]], masks is not None, batch_size
        )
        for cell in largest
    )


def _errors(
    classifier: Classifier, images: Images, chosen: Sequence[int]
) -> list[tuple[int, int, float]]:
    """Number, decided class and margin of the labelled images that are decided wrongly."""
    batch = images.read([number for number in chosen if images.labels[number] != UNKNOWN])
    if batch is None:
        return []
    logits = classifier.logits(batch.inputs).cpu().double()
    decided = logits.argmax(1).tolist()
    return [
        (number, best, float(row[best] - row[images.labels[number]]))
        for number, best, row in zip(batch.numbers, decided, logits, strict=True)
        if best != images.labels[number]
    ]


def _pair(
    explainer: Explainer,
    images: Images,
    cell: tuple[int, int],
    margins: dict[int, float],
    of_class: int,
    masked: bool,
    batch_size: int,
) -> ConfusedPair:
    true, decided = cell
    numbers = sorted(margins, key=lambda number: -margins[number])
    contrast = _against(explainer, true)
    maps, on_mask, layer, size, picture = [], [], "", (0, 0), None
    for chosen in batches(numbers, batch_size):
        batch = images.read(chosen)
        if batch is None:
            continue
        explanation = contrast(batch.inputs, targets=[decided] * len(batch.inputs))
        found = explanation.maps[:, 0].cpu()
        maps.append(shares(found))
        on_mask.append(energy_share(found, batch.masks))
        layer, size = explanation.layer, (batch.inputs.shape[-2], batch.inputs.shape[-1])
        if picture is None:
            pictures = prepare(explainer.classifier, batch.inputs[:1]).pictures
            picture = pictures[0] if pictures else None
    every = torch.cat(maps).numpy()
    sound = np.isfinite(every).all((1, 2))
    heat = every[sound].mean(0) if sound.any() else np.full(every.shape[1:], np.nan, every.dtype)
    region = hot_region(heat, size) if sound.any() else np.zeros(size, dtype=np.bool_)
    names = explainer.classifier.class_names
    return ConfusedPair(
        true=names[true],
        predicted=names[decided],
        members=tuple(numbers),
        names=tuple(images.names[number] for number in numbers),
        share=len(numbers) / of_class,
        mapped=int(sound.sum()),
        heat=heat,
        region=region,
        place=place_of(region) if region.any() else None,
        peaks=peaks_in(every[sound], region) if sound.any() else float("nan"),
        border=float(border_share(every[sound]).mean()) if sound.any() else float("nan"),
        outside=mean_interval(1 - torch.cat(on_mask).numpy()) if masked else None,
        picture=picture,
        method=contrast.method.name,
        layer=layer,
    )


def _against(explainer: Explainer, true: int) -> Explainer:
    """An explainer like this one, of a class against the true one."""
    contrasts = explainer.method.contrasts
    return Explainer(
        explainer.classifier,
        explainer.method.name if contrasts else CONTRASTIVE,
        explainer.layers,
        fusion=explainer.fusion,
        against=true,
        batch_size=explainer.batch_size,
        seed=explainer.seed,
        show_progress=False,
        **(explainer.options if contrasts else {}),
    )
