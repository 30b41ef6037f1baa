"""Supervision of the reason: the map of the true class shall lie in the mask."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mitate.explain.grid import Grid
from mitate.explain.layers import automatic
from mitate.explain.methods import find_method
from mitate.explain.tap import Place, TappedForward
from mitate.models.classifier import Classifier
from mitate.models.trial import probe
from mitate.training.masks import LEVELS

METHOD = "gradcam"


@dataclass(frozen=True)
class Guide:
    """Where the network is watched in training, and what is asked of its maps there.

    Ross et al. 2017 (arXiv:1703.03717, eq. 1) add to the loss the squared gradients of the pixels
    outside of a mask. Here it is the share of the energy of Grad-CAM, at the layer that ``auto``
    takes, outside of the mask: a share cannot be made small by making all of the map small.

    Attributes:
        place: the layer.
        grid: where its spatial axes are.
    """

    place: Place
    grid: Grid

    @classmethod
    def of(cls, classifier: Classifier) -> "Guide":
        """At the classifier's last layer with a spatial grid before pooling.

        Raises:
            LayerError: it has none.
        """
        found = automatic(classifier.network, probe(classifier), read=classifier.read)
        return cls(found.place, found.grid)

    def __call__(
        self, forward: TappedForward, levels: Int[Tensor, "b h w"], labels: Int[Tensor, " b"]
    ) -> Float[Tensor, ""] | None:
        """Mean share of energy outside, over images whose mask marks something; None without any.

        Args:
            forward: of the batch.
            levels: of the masks, 0 to 255; negative where not known.
            labels: the true classes, whose maps are taken.
        """
        marked = (levels > 0).flatten(1).any(1)
        if not marked.any():
            return None
        maps = self._maps(forward, labels)[marked]
        shares = energy_outside(maps, levels[marked].clamp_min(0) / LEVELS)
        return shares.mean()

    def _maps(self, forward: TappedForward, labels: Tensor) -> Float[Tensor, "b h w"]:
        with torch.enable_grad():  # fastai validates without
            scores = forward.logits.gather(1, labels[:, None])
            gradients = self.grid.spatial(forward.gradients(scores)[0])
        activations = self.grid.spatial(forward.activations[0])
        maps: Tensor = find_method(METHOD).function(activations, gradients)
        return maps[:, 0]


def energy_outside(
    maps: Float[Tensor, "b h w"], masks: Float[Tensor, "b H W"]
) -> Float[Tensor, " b"]:
    """Share of each map's energy outside of its mask, in [0, 1]; 0 where the map has none.

    The map is resized bilinearly to the mask's pixels, as where maps are judged.

    Args:
        maps: without negative values.
        masks: the share of each pixel that belongs to the region, in [0, 1].
    """
    size = (masks.shape[-2], masks.shape[-1])
    resized = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    total = resized.sum((-2, -1))
    outside = (resized * (1 - masks)).sum((-2, -1))
    return outside / total.clamp_min(torch.finfo(maps.dtype).tiny)
