"""Marked regions in other photos' surroundings: what only stands beside a class is not learnt."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate import imports
from mitate.imputing import impute
from mitate.training.masks import LEVELS
from mitate.training.photos import Photos

SHARE = 0.7  # of the photos with a mask; the others are shown as they are
CYCLES = 2  # of the imputation: its error is then below half a step of eight bits
AFTER_BYTES = 20  # between fastai's IntToFloatTensor and its augmentation


class Surroundings:
    """Photos whose mask is known, without what it marks: filled smoothly from around it.

    Args:
        photos: with masks.
    """

    def __init__(self, photos: Photos) -> None:
        self.photos = photos
        levels = [photos.levels(number) for number in range(len(photos))]
        self.numbers = [n for n, of in enumerate(levels) if (of >= 0).all() and (of == 0).any()]
        self.kept: dict[int, Tensor] = {}

    def of(self, number: int) -> Float[Tensor, "c h w"]:
        """One photo's, in [0, 1]."""
        if number in self.kept:
            return self.kept[number].float() / LEVELS
        image, marked = self.photos[number][0].float(), self.photos.levels(number) > 0
        found = impute(image[None], marked[None], cycles=CYCLES)[0] if marked.any() else image
        found = found.round().clamp(0, LEVELS).byte()
        if len(self.kept) < self.photos.most_kept:
            self.kept[number] = found
        return found.float() / LEVELS

    def drawn(self, number: int) -> Float[Tensor, "n c h w"]:
        """Those of so many photos, at random."""
        chosen = torch.randint(len(self.numbers), (number,)).tolist()
        return torch.stack([self.of(self.numbers[index]) for index in chosen])


def planted(
    images: Float[Tensor, "b c h w"],
    levels: Int[Tensor, "b h w"],
    surroundings: Surroundings,
    share: float = SHARE,
) -> Float[Tensor, "b c h w"]:
    """The batch, in which photos with a mask show what it marks in other photos' surroundings.

    The class of a photo goes with its region. Surroundings are of any class, so that what always
    stands beside one (a date, a table) stands beside all; a photo of which nothing is marked shows
    other surroundings alone. Regions are cut and pasted as in Dwibedi et al. 2017
    (arXiv:1708.01642); that a network then tells by the region is what Chang et al. 2021
    (arXiv:2106.01127) and Xiao et al. 2020 (arXiv:2006.09994) found.

    Args:
        images: in [0, 1].
        levels: of the masks, 0 to 255; negative where not known.
        surroundings: what is drawn from.
        share: of the photos with a mask.
    """
    known = (levels >= 0).flatten(1).all(1)
    moved = (torch.rand(len(images)).to(images.device) < share) & known
    if not moved.any() or not surroundings.numbers:
        return images
    kept = (levels[moved] / LEVELS)[:, None].to(images)
    others = surroundings.drawn(int(moved.sum())).to(images)
    mixed = images.clone()
    mixed[moved] = images[moved] * kept + others * (1 - kept)
    return mixed


def planting(photos: Photos, share: float = SHARE) -> Any:
    """The same as fastai takes it: in training, before the photos are turned and lit."""
    vision = imports.fastai("vision.all")
    surroundings = Surroundings(photos)

    class Planting(vision.ItemTransform):  # type: ignore[misc, name-defined]
        order, split_idx = AFTER_BYTES, 0

        def encodes(self, batch):  # type: ignore[no-untyped-def]  # fastai goes by annotations
            images, levels, labels = batch
            pixels, marked = (part.as_subclass(Tensor) for part in (images, levels))
            return vision.TensorImage(planted(pixels, marked, surroundings, share)), levels, labels

    return Planting()
