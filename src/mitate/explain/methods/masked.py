"""Methods that mask the input and read the class score of each masked forward."""

from jaxtyping import Float
from torch import Tensor, einsum, where

from mitate.explain.methods.table import Cost, Needs, method
from mitate.explain.scorer import Scorer
from mitate.tensors import varies


@method(
    "scorecam",
    needs=Needs.SCORES,
    family="masked forwards",
    cost=Cost(1, per_channel=1),
    cite="Wang et al. 2020, doi:10.1109/CVPRW50498.2020.00020",
)
def scorecam(
    activations: Float[Tensor, "b c h w"], scorer: Scorer, *, channel_softmax: bool = False
) -> Float[Tensor, "b k h w"]:
    """Channels weighted by the class's probability when each alone masks the input.

    Each channel is upsampled to the input, scaled to [0, 1] and multiplied with the image; its
    weight is the softmax probability of the class on that image, as in the authors' code. A
    channel that is constant over space masks nothing and is left out, as there.

    Args:
        activations: what the layer gave.
        scorer: runs the masked forwards.
        channel_softmax: weight instead by a softmax over channels of the class's logits, which
            grad-cam and torchcam call Score-CAM.
    """
    live = varies(activations)
    if channel_softmax:
        dead = ~live[..., None]
        logits = scorer.logits(activations, live).masked_fill(dead, float("-inf"))
        weights = where(dead, 0, logits.softmax(1))
    else:
        weights = scorer.probabilities(activations, live)
    return einsum("bck,bchw->bkhw", weights, activations).relu()
