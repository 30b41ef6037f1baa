"""Maps that say nothing, and why: what keeps an empty map from passing silently."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from mitate.tensors import varies

REASONS = {
    "not finite": "the activations or scores overflowed or were not finite",
    "zero": "no weighted channel is positive anywhere",
    "constant": "the method gives the same value everywhere on this grid",
}
NOTHING = "nothing was found that speaks for this class"  # of methods that weight no channels
UNSEEN = (
    "no gradient of this class arrives there: the network is saturated or cuts gradients off; "
    "scorecam and occlusion need none"
)


@dataclass(frozen=True)
class Flag:
    """Something wrong with one map, and why.

    Attributes:
        image: index of the image in the batch.
        target: index of the target, 0 to k - 1.
        kind: ``zero``, ``constant`` or ``not finite``.
        reason: what is known of the cause, in words.
    """

    image: int
    target: int
    kind: str
    reason: str


def unseen(gradients: Float[Tensor, "b k *values"]) -> Bool[Tensor, "b k"]:
    """Where a layer, or the pixels, get no gradient at all."""
    return ~gradients.flatten(2).any(-1)


def find_flags(
    maps: Float[Tensor, "b k *cells"],
    blind: Bool[Tensor, "b k"] | None = None,
    *,
    of_channels: bool = True,
) -> tuple[Flag, ...]:
    """Flag every map that is not finite, zero or constant.

    ``blind`` tells where the layer got no gradient, ``of_channels`` whether channels are weighted.
    """
    finite = maps.isfinite().flatten(2).all(-1)
    zero = ~maps.flatten(2).any(-1)
    flags = []
    for image, target in (~finite | ~varies(maps.flatten(2, -2))).nonzero().tolist():
        kind = "zero" if zero[image, target] else "constant"
        kind = kind if finite[image, target] else "not finite"
        reason = REASONS[kind]
        if kind == "zero" and not of_channels:
            reason = NOTHING
        if kind == "zero" and blind is not None and blind[image, target]:
            reason = UNSEEN
        flags.append(Flag(image, target, kind, reason))
    return tuple(flags)


def refound(flags: Sequence[Flag], maps: Float[Tensor, "b k *cells"]) -> tuple[Flag, ...]:
    """Flag maps that were made of others; for what was flagged in those too the reason is known."""
    known = {(flag.image, flag.target, flag.kind): flag for flag in flags}
    return tuple(known.get((new.image, new.target, new.kind), new) for new in find_flags(maps))
