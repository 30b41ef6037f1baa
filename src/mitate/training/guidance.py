"""Supervision of the reason: the map of the true class shall lie in the mask."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mitate.explain.grid import Grid
from mitate.explain.hooks import Place
from mitate.explain.layers import automatic
from mitate.explain.methods import find_method
from mitate.explain.tap import TappedForward
from mitate.models.classifier import Classifier
from mitate.models.trial import probe
from mitate.training.masks import LEVELS

METHOD = "gradcam"


@dataclass(frozen=True)
class Guide:
    """Where the network is watched in training, and what is asked of its maps there.

    Ross et al. 2017 (arXiv:1703.03717, eq. 1) add to the loss the squared gradients of the pixels
    outside of a mask; Rao et al. 2023 (arXiv:2303.11932, sec. 3.3) the share of a map's energy
    outside of it, which cannot be made small by making all of the map small. Here it is the
    logarithm of the share inside of it, of Grad-CAM at the layer that ``auto`` takes: of a lesion
    that covers 2 % of a photo the share outside hardly moves where the share inside doubles.

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
        """Mean surprise of the masks, over images whose mask marks something; None without any.

        Args:
            forward: of the batch.
            levels: of the masks, 0 to 255; negative where not known.
            labels: the true classes, whose maps are taken.
        """
        marked = (levels > 0).flatten(1).any(1)
        if not marked.any():
            return None
        evidence = self._evidence(forward, labels)[marked]
        return surprise(evidence, levels[marked].clamp_min(0) / LEVELS).mean()

    def _evidence(self, forward: TappedForward, labels: Tensor) -> Float[Tensor, "b h w"]:
        """Grad-CAM before its positive part is taken, in logits: what each cell adds to the class.

        At a layer whose mean a linear layer classifies, the mean over cells is the class's logit.
        """
        with torch.enable_grad():  # fastai validates without
            scores = forward.logits.gather(1, labels[:, None])
            gradients = self.grid.spatial(forward.gradients(scores)[0])
        activations = self.grid.spatial(forward.activations[0])
        means = gradients.mean((-2, -1))
        maps: Tensor = find_method(METHOD).function(activations, means, signed=True)
        return maps[:, 0] * maps[0, 0].numel()


def surprise(
    evidence: Float[Tensor, "b h w"], masks: Float[Tensor, "b H W"]
) -> Float[Tensor, " b"]:
    """Minus the logarithm of the share of each map's energy that lies in its mask.

    The energy is the softplus of the evidence: of much evidence its positive part, and of none or
    of negative evidence still something that can grow, in the mask too. It is resized bilinearly to
    the mask's pixels, as where maps are judged.

    Args:
        evidence: in logits.
        masks: the share of each pixel that belongs to the region, in [0, 1]; none is empty.
    """
    size = (masks.shape[-2], masks.shape[-1])
    tiny = torch.finfo(evidence.dtype).tiny
    energy = F.softplus(evidence).clamp_min(tiny)[:, None]
    resized = F.interpolate(energy, size, mode="bilinear", align_corners=False)[:, 0]
    inside = (resized * masks).sum((-2, -1)) / resized.sum((-2, -1))
    return -inside.clamp_min(tiny).log()
