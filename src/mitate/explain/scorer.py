"""The only place that runs masked forwards.

Masks of pixels are made when their turn comes: each batch is made (upsampled and scaled, where the
masks have a small grid of their own), laid over its images and scored, so that memory follows the
batch size and not the number of masks. Batches cross images, and every class's score comes from the
same forward.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mitate.explain.tap import Read
from mitate.models.mode import USUAL_BATCH, at_full_speed, evaluating
from mitate.models.tasks import Task, likelihood
from mitate.tensors import at_least_single, rows, to_unit_range

Advance = Callable[[int], None]
Make = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scorer:
    """Scores of the explained classes for masked images.

    Attributes:
        network: the classifier's network.
        read: takes the logits (b, n) from the network's output.
        images: the preprocessed images (b, channels, H, W).
        classes: the explained classes (b, k).
        whole: all logits of the unmasked images (b, n).
        batch_size: masked forwards in one batch.
        advance: called with the number of forwards done.
        task: what the logits mean.
        quick: gives the logits of pictures in the network's place, where no gradient is wanted.
    """

    network: nn.Module
    read: Read
    images: Float[Tensor, "b channels H W"]
    classes: Int[Tensor, "b k"]
    whole: Float[Tensor, "b n"]
    batch_size: int = USUAL_BATCH
    advance: Advance = field(default=lambda forwards: None)
    task: Task = "single-label"
    quick: Callable[[Tensor], Tensor] | None = None

    def probabilities(
        self,
        masks: Float[Tensor, "b m h w"],
        wanted: Bool[Tensor, "b m"],
        *,
        noise: Float[Tensor, "b 1 H W"] | None = None,
        share: float = 1.0,
        behind: Float[Tensor, "b channels H W"] | None = None,
    ) -> Float[Tensor, "b m k"]:
        """Probability of the explained classes under each wanted mask; 0 where unwanted.

        Each mask is upsampled bilinearly to the images, scaled to [0, 1] and multiplied with its
        image. A regression has no probabilities: there it is what the value rises above that of an
        image of zeros.

        Args:
            masks: on their own small grid.
            wanted: which of them are scored.
            noise: added to every mask of an image.
            share: what the masked image is multiplied with.
            behind: pictures that show where a mask is less than 1.
        """

        def make(owner: Tensor, number: Tensor) -> Tensor:
            pixels = share * to_unit_range(self.upsampled(masks[owner, number]))
            return pixels if noise is None else pixels + share * noise[owner]

        return self._filled(masks, wanted, self.each(wanted, make, behind=behind))

    def logits(
        self, masks: Float[Tensor, "b m h w"], wanted: Bool[Tensor, "b m"]
    ) -> Float[Tensor, "b m k"]:
        """Logits of the explained classes under each wanted mask; 0 where unwanted."""

        def make(owner: Tensor, number: Tensor) -> Tensor:
            return to_unit_range(self.upsampled(masks[owner, number]))

        return self._filled(masks, wanted, self._scored(wanted, make, lambda logits: logits))

    def own_probabilities(self) -> Float[Tensor, "b k"]:
        """Probability of the explained classes for the unmasked images."""
        return self._likelihood(at_least_single(self.whole)).gather(1, self.classes)

    def own_logits(self) -> Float[Tensor, "b k"]:
        """Logits of the explained classes for the unmasked images."""
        return at_least_single(self.whole).gather(1, self.classes)

    def each(
        self,
        wanted: Bool[Tensor, "b m"],
        make: Make,
        *,
        behind: Float[Tensor, "b channels H W"] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Score masks that are made when their turn comes, a batch at a time.

        Args:
            wanted: which masks of which image are scored.
            make: from owners (n,) and numbers (n,) to masks of pixels (n, 1, H, W).
            behind: pictures that show where a mask is less than 1.

        Yields:
            Owners (n,), numbers (n,), masks (n, 1, H, W) and probabilities of the explained classes
            (n, k), as ``probabilities`` has them.
        """
        return self._scored(wanted, make, self._likelihood, behind)

    def altered(self, wanted: Bool[Tensor, "b m"], make: Make) -> Float[Tensor, "b m k"]:
        """Probability of the explained classes for images altered in any way; 0 where unwanted.

        All images go through one alteration before the next, so that what makes the pictures can
        make those of a whole batch at once.

        Args:
            wanted: which alterations of which image are scored.
            make: from owners (n,) and numbers (n,) to pictures (n, channels, H, W).
        """
        numbers, owners = wanted.T.nonzero(as_tuple=True)
        scores = at_least_single(self.whole).new_zeros(*wanted.shape, self.classes.shape[1])
        for start in range(0, len(owners), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            owner, number = owners[chosen], numbers[chosen]
            logits = self.picture_logits(make(owner, number))
            found = self._likelihood(logits).gather(1, self.classes[owner])
            scores[owner, number] = found.to(scores.dtype)
            self.advance(len(owner))
        return scores

    def picture_logits(
        self, pictures: Float[Tensor, "n channels H W"]
    ) -> Float[Tensor, "n classes"]:
        """All logits of pictures, without gradients."""
        with self._evaluating(recorded=False), torch.no_grad():
            return self._run(pictures.to(self.images.dtype))

    def masked_logits(
        self,
        owners: Int[Tensor, " n"],
        masks: Float[Tensor, "n 1 H W"],
        behind: Float[Tensor, "b channels H W"] | None = None,
    ) -> Float[Tensor, "n classes"]:
        """All logits of the owners' images times the masks; differentiable where the masks are."""
        recorded = masks.requires_grad
        with self._evaluating(recorded=recorded), torch.set_grad_enabled(recorded):
            shown = masks.to(self.images.dtype)
            images = rows(self.images, owners)
            if behind is None:
                return self._run(images * shown)
            return self._run(torch.lerp(rows(behind, owners).to(images.dtype), images, shown))

    def _evaluating(self, *, recorded: bool) -> AbstractContextManager[None]:
        """Evaluation mode, where the network itself is run."""
        return nullcontext() if self.quick and not recorded else evaluating(self.network)

    def _run(self, pictures: Tensor) -> Tensor:
        if self.quick and not torch.is_grad_enabled():
            return at_least_single(self.quick(pictures))
        return at_full_speed(
            self.network,
            pictures,
            lambda images: at_least_single(self.read(self.network(images))),
            fixed=True,
        )

    def upsampled(self, masks: Float[Tensor, "n h w"]) -> Float[Tensor, "n 1 H W"]:
        """Masks at the size of the images, bilinearly."""
        size = self.images.shape[-2:]
        return F.interpolate(masks[:, None], size, mode="bilinear", align_corners=False)

    def scaled(self, masks: Float[Tensor, "b m h w"]) -> Float[Tensor, "b m h w"]:
        """Masks whose upsampled pixels reach from 0 to 1; a constant one becomes zero."""
        bounds = [
            torch.stack(self.upsampled(part).flatten(1).aminmax(dim=1))
            for part in torch.split(masks.flatten(0, 1), self.batch_size)
        ]
        low, high = torch.cat(bounds, 1).reshape(2, *masks.shape[:2], 1, 1)
        span = high - low
        return torch.where(span > 0, (masks - low) / torch.where(span > 0, span, 1), 0)

    def _scored(
        self,
        wanted: Tensor,
        make: Make,
        score: Callable[[Tensor], Tensor],
        behind: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        owners, numbers = wanted.nonzero(as_tuple=True)
        for start in range(0, len(owners), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            owner, number = owners[chosen], numbers[chosen]
            masks = make(owner, number)
            found = score(self.masked_logits(owner, masks, behind)).gather(1, self.classes[owner])
            self.advance(len(owner))
            yield owner, number, masks, found

    def _filled(
        self, masks: Tensor, wanted: Tensor, batches: Iterator[tuple[Tensor, ...]]
    ) -> Float[Tensor, "b m k"]:
        scores = masks.new_zeros(*wanted.shape, self.classes.shape[1])
        for owner, number, _, found in batches:
            scores[owner, number] = found.to(scores.dtype)
        return scores

    def _likelihood(self, logits: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
        likely = likelihood(self.task, logits)
        return likely - self._of_nothing if self.task == "regression" else likely

    @cached_property
    def _of_nothing(self) -> Float[Tensor, "1 classes"]:
        first = torch.zeros(1, dtype=torch.long, device=self.images.device)
        return self.masked_logits(first, torch.zeros_like(self.images[:1, :1]))
