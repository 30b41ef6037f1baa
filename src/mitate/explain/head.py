"""The linear classifier behind pooling, taken to every cell: what CAM is made of."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mitate.errors import LayerError
from mitate.explain.hooks import Place
from mitate.explain.trace import Call, trace
from mitate.models.classifier import Classifier
from mitate.tensors import exact

LINEAR = (nn.Linear, nn.Conv2d)
NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)
TOLERANCE = 1e-4  # of the largest value, for what float32 adds up in another order
ROUNDINGS = 8  # and for half precision so many of its own


@dataclass(frozen=True)
class Head:
    """Class weights of an image's channels, as they act on each cell.

    Attributes:
        weights: (b, n, c): their product with the mean activations is the logits, but for a
            constant that is the same at every cell.
    """

    weights: Float[Tensor, "b n c"]

    def of(self, classes: Int[Tensor, "b k"]) -> Float[Tensor, "b k c"]:
        """The weights of some classes."""
        index = classes[..., None].expand(-1, -1, self.weights.shape[-1])
        return self.weights.gather(1, index)


@dataclass(frozen=True)
class Way:
    """What lies between the mean of a layer's cells and the logits.

    Attributes:
        linear: gives the logits.
        norm: over channels, in front of it; None where there is none.
    """

    linear: nn.Module
    norm: nn.Module | None = None

    def head(self, activations: Float[Tensor, "b c h w"]) -> Head:
        """The weights for images with these activations."""
        means = activations.mean((-2, -1))
        weights = self.linear.weight.detach().flatten(1).to(means.dtype)  # type: ignore[operator]
        if self.norm is None:
            return Head(weights.expand(len(means), -1, -1))
        return Head(_through(self.norm, weights, means))


def find_head(
    classifier: Classifier,
    inputs: Float[Tensor, "b channels *pixels"],
    place: Place,
    activations: Float[Tensor, "b c h w"],
    logits: Float[Tensor, "b n"],
) -> Head:
    """Find the weights between the mean of a layer's cells and the logits: of ``find_way``."""
    return find_way(classifier, inputs, place, activations, logits).head(activations)


def find_way(
    classifier: Classifier,
    inputs: Float[Tensor, "b channels *pixels"],
    place: Place,
    activations: Float[Tensor, "b c h w"],
    logits: Float[Tensor, "b n"],
) -> Way:
    """Find the modules between the mean of a layer's cells and the logits.

    The way from the one to the other must be linear, or a norm over channels and then linear (as in
    ConvNeXt); a layer norm's deviation is taken as the image's own, so that its way is linear too.

    Raises:
        LayerError: there is more than pooling, a norm and a linear layer behind this one.
    """
    means = activations.mean((-2, -1))
    calls = trace(classifier.network, inputs[:1], (*LINEAR, *NORMS))
    linears = [call for call in reversed(calls) if isinstance(call.module, LINEAR)]
    norms = [call for call in reversed(calls) if isinstance(call.module, NORMS)]
    for linear in linears:
        if _same(_given(linear, means), logits):
            return Way(linear.module)
        for norm in norms:
            normed = _given(norm, means)
            if normed is not None and _same(_given(linear, normed), logits):
                return Way(linear.module, norm.module)
    raise LayerError(
        f"CAM needs pooling, at most a norm, and one linear layer behind {place.name!r}, and finds "
        "more: take the last layer before pooling, or method='hirescam', which is CAM where CAM is "
        "defined and works elsewhere too"
    )


@torch.no_grad()
def _given(call: Call, values: Float[Tensor, "b c"]) -> Float[Tensor, "b m"] | None:
    """What a module's weights make of these values; None where they are of another number.

    That is what the map is made of. What a subclass adds to it, as an activation or a change of
    low rank does, is not in it, so that the logits behind are others.
    """
    if call.input is None or call.input[:1].numel() != values.shape[1]:
        return None
    module: Any = call.module
    weight: Any
    taken = values.to(call.input.dtype)
    weight, bias = (None if one is None else one.to(taken) for one in (module.weight, module.bias))
    if isinstance(module, LINEAR):
        rows = weight.flatten(1)
        return F.linear(taken, rows, bias) if rows.shape[1] == taken.shape[1] else None
    scale, shift = (None if one is None else one.flatten() for one in (weight, bias))
    if isinstance(module, nn.LayerNorm):
        fits = math.prod(module.normalized_shape) == taken.shape[1]
        return F.layer_norm(taken, taken.shape[1:], scale, shift, module.eps) if fits else None
    if module.running_mean is None or module.num_features != taken.shape[1]:
        return None
    mean, variance = module.running_mean.to(taken), module.running_var.to(taken)
    return F.batch_norm(taken, mean, variance, scale, shift, eps=module.eps)


def _same(found: Tensor | None, wanted: Tensor) -> bool:
    """Whether the largest difference is one of rounding."""
    if found is None or found.shape != wanted.shape:
        return False
    coarse = ROUNDINGS * torch.finfo(found.dtype).eps
    apart = (exact(found) - exact(wanted)).abs().max()
    return bool(apart <= max(TOLERANCE, coarse) * exact(wanted).abs().max())


def _through(
    norm: nn.Module, weights: Float[Tensor, "n c"], means: Float[Tensor, "b c"]
) -> Float[Tensor, "b n c"]:
    """The weights in front of a norm of the mean activations."""
    scale = norm.weight
    own = weights if scale is None else weights * scale.detach()  # type: ignore[operator]
    if isinstance(norm, nn.LayerNorm):
        centred = own - own.mean(-1, keepdim=True)
        deviation = (means.var(-1, correction=0) + norm.eps).sqrt()
        return centred / deviation[:, None, None]
    variance = norm.running_var
    deviation = (variance + norm.eps).sqrt()  # type: ignore[operator]
    return (own / deviation).to(means.dtype).expand(len(means), -1, -1)
