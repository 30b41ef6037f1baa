"""A batch of images that is measured, and the maps of one contender on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mitate.auditing.agreement import segmented
from mitate.auditing.fillings import filled
from mitate.auditing.ranking import ranks, tie_orders
from mitate.auditing.redrawing import Redrawn
from mitate.auditing.steps import IMPUTED
from mitate.errors import UsageError
from mitate.explain.augmentation import VARIANTS
from mitate.explain.explainer import Explainer
from mitate.explain.scorer import Scorer
from mitate.imputing import NOISE, impute
from mitate.models.classifier import Classifier
from mitate.models.mode import USUAL_BATCH
from mitate.tensors import at_least_single, replaced, rows, seeded, seeds, to_unit_range

RANKINGS = {"pixels": "bilinear", "cells": "nearest"}
Advance = Callable[[float], None]


@dataclass
class Sample:
    """Images with the class that is explained of each, and what all contenders share of them.

    Attributes:
        classifier: whose maps are measured.
        images: the preprocessed images.
        classes: the explained class of each.
        masks: the share of each pixel that belongs to the region.
        seed: of everything that is drawn.
        batch_size: altered images in one forward.
        advance: told how many forwards were run.
    """

    classifier: Classifier
    images: Float[Tensor, "b channels H W"]
    classes: Int[Tensor, " b"]
    masks: Float[Tensor, "b H W"] | None = None
    seed: int = 0
    batch_size: int = USUAL_BATCH
    advance: Advance = field(default=lambda forwards: None)
    spent: float = 0.0
    kept: dict[Any, Tensor] = field(default_factory=dict)

    def spend(self, forwards: float) -> None:
        """Count forwards that were run."""
        self.spent += forwards
        self.advance(forwards)

    @cached_property
    def scorer(self) -> Scorer:
        """Runs the altered images; made by a forward of the whole ones."""
        whole = [self.classifier.logits(part) for part in torch.split(self.images, self.batch_size)]
        self.spend(len(self.images))
        return Scorer(
            self.classifier.network,
            self.classifier.read,
            self.images,
            self.classes[:, None],
            torch.cat(whole),
            self.batch_size,
            self.spend,
            self.classifier.task,
        )

    @cached_property
    def own(self) -> Float[Tensor, " b"]:
        """Probability of the class for the unaltered images."""
        return self.scorer.own_probabilities()[:, 0]

    @cached_property
    def segmentation(self) -> Float[Tensor, "b H W"]:
        """What the classifier segments for the class of each image."""
        parts = (torch.split(part, self.batch_size) for part in (self.images, self.classes))
        drawn = [segmented(self.classifier, *part) for part in zip(*parts, strict=True)]
        self.spend(len(self.images))
        return torch.cat(drawn)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def generators(self) -> list[torch.Generator]:
        """A random generator an image, as new each time."""
        return seeded(self._seeds)

    def filling(self, name: str) -> Float[Tensor, "b channels H W"]:
        """What is seen where an image is taken away."""
        if name not in self.kept:
            preprocessing = self.classifier.preprocessing
            images = at_least_single(self.images)
            self.kept[name] = filled(name, images, self.generators, preprocessing)
        return self.kept[name]

    def imputed(
        self, owners: Int[Tensor, " n"], missing: Bool[Tensor, "n H W"]
    ) -> Float[Tensor, "n channels H W"]:
        """Owners' images whose missing pixels are imputed from what is left, with noise."""
        images = rows(at_least_single(self.images), owners)
        return replaced(images, missing, impute(images, missing) + rows(self._noise, owners))

    def filled(
        self, owners: Int[Tensor, " n"], missing: Bool[Tensor, "n H W"], filling: str
    ) -> Float[Tensor, "n channels H W"]:
        """Owners' images whose missing pixels show a filling, or are imputed."""
        if filling == IMPUTED:
            return self.imputed(owners, missing)
        images = rows(at_least_single(self.images), owners)
        return replaced(images, missing, rows(self.filling(filling), owners))

    @cached_property
    def redrawn(self) -> Redrawn:
        """New weights for the network, the same for all contenders."""
        return Redrawn(self.classifier.network, self.seed)

    @cached_property
    def tie_orders(self) -> Int[Tensor, "b pixels"]:
        """The order in which pixels of equal relevance go."""
        height, width = self.size
        return tie_orders(height * width, self.generators, self.images.device)

    @cached_property
    def _seeds(self) -> list[int]:
        return seeds(self.seed, list(self.images))

    @cached_property
    def _noise(self) -> Float[Tensor, "b channels H W"]:
        images = at_least_single(self.images)
        span = images.flatten(1).amax(1) - images.flatten(1).amin(1)
        drawn = [
            torch.randn(image.shape, generator=generator)
            for image, generator in zip(images, self.generators, strict=True)
        ]
        return NOISE * span[:, None, None, None] * torch.stack(drawn).to(images)


@dataclass
class Contender:
    """The maps of one method at one layer on a sample: the evidence that metrics take.

    Attributes:
        name: what it is called.
        sample: the images.
        given: one map an image, on its own grid.
        explainer: makes new maps, for the metrics that need them.
    """

    name: str
    sample: Sample
    given: Float[Tensor, "b h w"]
    explainer: Explainer | None = None
    ranked: dict[str, Tensor] = field(default_factory=dict)

    def evidence(self, names: Sequence[str]) -> list[Any]:
        """What a metric needs, in its order."""
        return [getattr(self, name) for name in names]

    @cached_property
    def valid(self) -> Bool[Tensor, " b"]:
        """Whose map is finite: of the others nothing is measured."""
        return self.given.flatten(1).isfinite().all(1)

    @cached_property
    def maps(self) -> Float[Tensor, "b h w"]:
        """The maps, zero where they are not valid."""
        return torch.where(self.valid[:, None, None], at_least_single(self.given), 0)

    @cached_property
    def pixels(self) -> Float[Tensor, "b H W"]:
        """The maps at the pixels of the images, bilinearly."""
        return self._resized("bilinear")

    @cached_property
    def shown(self) -> Float[Tensor, "b H W"]:
        """The maps at pixels, from 0 to 1, as masks of the images; a constant one shows nothing."""
        return to_unit_range(self.pixels)

    def ranks(self, ranking: str) -> Int[Tensor, "b H W"]:
        """The place of each pixel from the most relevant to the least.

        Args:
            ranking: ``pixels`` of the map upsampled bilinearly, or ``cells`` of its own grid.

        Raises:
            UsageError: no such ranking.
        """
        if ranking not in RANKINGS:
            raise UsageError(f"no ranking is called {ranking!r}: use {' or '.join(RANKINGS)}")
        if ranking not in self.ranked:
            values = self._resized(RANKINGS[ranking])
            self.ranked[ranking] = ranks(values, self.sample.tie_orders)
        return self.ranked[ranking]

    @property
    def masks(self) -> Float[Tensor, "b H W"]:
        """The masks of the sample."""
        assert self.sample.masks is not None
        return self.sample.masks

    @property
    def segmentation(self) -> Float[Tensor, "b H W"]:
        """What the classifier itself segments for the class of each image."""
        return self.sample.segmentation

    @property
    def own(self) -> Float[Tensor, " b"]:
        """Probability of the class for the unaltered images."""
        return self.sample.own

    @property
    def images(self) -> Float[Tensor, "b channels H W"]:
        """The preprocessed images."""
        return at_least_single(self.sample.images)

    @property
    def classes(self) -> Int[Tensor, " b"]:
        """The explained class of each image."""
        return self.sample.classes

    @property
    def class_count(self) -> int:
        """How many classes there are."""
        return self.sample.scorer.whole.shape[1]

    @property
    def redrawn(self) -> Redrawn:
        """New weights for the network, the same for all contenders."""
        return self.sample.redrawn

    @property
    def generators(self) -> list[torch.Generator]:
        """A random generator an image, as new each time."""
        return self.sample.generators

    @cached_property
    def again(self) -> Float[Tensor, "b h w"]:
        """The map of each image seen through its map, over black."""
        share, behind = self.shown[:, None], self.sample.filling("black")
        return self.explain(share * self.images + (1 - share) * behind, self.classes)

    @cached_property
    def variants(self) -> Float[Tensor, "b variants h w"]:
        """The maps of each image mirrored and at other contrasts, mirrored back."""
        found = []
        for factor, mirrored in VARIANTS[1:]:
            varied = self.images * factor
            maps = self.explain(varied.flip(-1) if mirrored else varied, self.classes)
            found.append(maps.flip(-1) if mirrored else maps)
        return torch.stack(found, 1)

    def explain(
        self, images: Float[Tensor, "b channels H W"], classes: Int[Tensor, " b"]
    ) -> Float[Tensor, "b h w"]:
        """New maps by the contender's own explainer."""
        assert self.explainer is not None
        found = self.explainer(images.to(self.sample.images.dtype), targets=classes[:, None])
        self.sample.spend(found.cost * len(images))
        return at_least_single(found.maps[:, 0])

    def _resized(self, mode: str) -> Float[Tensor, "b H W"]:
        align = False if mode == "bilinear" else None
        size = self.sample.size
        return F.interpolate(self.maps[:, None], size, mode=mode, align_corners=align)[:, 0]


def contenders(
    sample: Sample,
    maps: Mapping[str, Float[Tensor, "b h w"]],
    explainers: Mapping[str, Explainer] | None,
) -> dict[str, Contender]:
    """Every contender by its name."""
    return {
        name: Contender(name, sample, given.detach(), (explainers or {}).get(name))
        for name, given in maps.items()
    }
