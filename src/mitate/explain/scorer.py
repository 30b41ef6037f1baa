"""The only place that runs masked forwards.

Masks stay on their own small grid until their turn: each batch is upsampled, scaled, multiplied
with its images and scored, so that memory follows the batch size and not the number of masks.
Batches cross images, and every class's score comes from the same forward.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mitate.explain.tap import Read
from mitate.models.mode import evaluating
from mitate.models.tasks import Task, likelihood
from mitate.tensors import at_least_single, to_unit_range

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Scorer:
    """Scores of the explained classes for masked images.

    Attributes:
        network: the classifier's network.
        read: takes the logits (b, n) from the network's output.
        images: the preprocessed images (b, channels, H, W).
        classes: the explained classes (b, k).
        batch_size: masked forwards in one batch.
        advance: called with the number of forwards done.
        task: what the logits mean.
    """

    network: nn.Module
    read: Read
    images: Float[Tensor, "b channels H W"]
    classes: Int[Tensor, "b k"]
    batch_size: int = 16
    advance: Advance = field(default=lambda forwards: None)
    task: Task = "single-label"

    def probabilities(
        self,
        masks: Float[Tensor, "b m h w"],
        wanted: Bool[Tensor, "b m"],
        *,
        noise: Float[Tensor, "b 1 H W"] | None = None,
        share: float = 1.0,
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
        """
        return self._scores(masks, wanted, self._likelihood, noise, share)

    def logits(
        self, masks: Float[Tensor, "b m h w"], wanted: Bool[Tensor, "b m"]
    ) -> Float[Tensor, "b m k"]:
        """Logits of the explained classes under each wanted mask; 0 where unwanted."""
        return self._scores(masks, wanted, lambda logits: logits)

    def masked_logits(
        self, owners: Int[Tensor, " n"], masks: Float[Tensor, "n 1 H W"]
    ) -> Float[Tensor, "n classes"]:
        """All logits of the owners' images times the masks; differentiable where the masks are."""
        with evaluating(self.network), torch.set_grad_enabled(masks.requires_grad):
            masked = self.images[owners] * masks.to(self.images.dtype)
            return at_least_single(self.read(self.network(masked)))

    def _scores(
        self,
        masks: Tensor,
        wanted: Tensor,
        score: Callable[[Tensor], Tensor],
        noise: Tensor | None = None,
        share: float = 1.0,
    ) -> Float[Tensor, "b m k"]:
        owners, numbers = wanted.nonzero(as_tuple=True)
        scores = masks.new_zeros(*wanted.shape, self.classes.shape[1])
        for start in range(0, len(owners), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            owner, number = owners[chosen], numbers[chosen]
            pixels = share * self._upsampled(masks[owner, number])
            if noise is not None:
                pixels = pixels + share * noise[owner]
            logits = self.masked_logits(owner, pixels)
            scores[owner, number] = score(logits).gather(1, self.classes[owner]).to(scores.dtype)
            self.advance(len(owner))
        return scores

    def _likelihood(self, logits: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
        likely = likelihood(self.task, logits)
        return likely - self._of_nothing if self.task == "regression" else likely

    @cached_property
    def _of_nothing(self) -> Float[Tensor, "1 classes"]:
        first = torch.zeros(1, dtype=torch.long, device=self.images.device)
        return self.masked_logits(first, torch.zeros_like(self.images[:1, :1]))

    def _upsampled(self, masks: Float[Tensor, "n h w"]) -> Float[Tensor, "n 1 H W"]:
        size = self.images.shape[-2:]
        pixels = F.interpolate(masks[:, None], size, mode="bilinear", align_corners=False)
        return to_unit_range(pixels)
