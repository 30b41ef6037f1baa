"""One map of the maps of several layers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.methods.table import Method
from mitate.tensors import relative_to_maximum, resize_maps

FUSIONS = ("max", "mean", "product")
USUAL = FUSIONS[0]


def checked_fusion(fusion: str | None, method: Method, layers: int) -> str:
    """The name of a fusion: without one the usual, and none of one layer or of joined ones.

    Args:
        fusion: what was asked for, if anything.
        method: whose maps are fused.
        layers: how many.

    Raises:
        UsageError: no such fusion, or one for one layer or a method that joins the layers itself.
    """
    if not fusion:
        return "" if method.joins_layers or layers < 2 else USUAL
    if fusion not in FUSIONS:
        raise UsageError(f"fusion {fusion!r}: use one of {', '.join(FUSIONS)}")
    if method.joins_layers:
        raise UsageError(
            f"{method.name} makes one map of all its layers by itself: leave out fusion, or use a "
            "method of one layer, such as layercam"
        )
    if layers < 2:
        raise UsageError(
            "fusion is of several layers, and one is named: name several, such as "
            "'blocks.1 + auto', or leave out fusion"
        )
    return fusion


def fused(maps: Sequence[Float[Tensor, "b k ..."]], fusion: str) -> Float[Tensor, "b k *cells"]:
    """Fuse maps of the same images and classes on the finest of their grids.

    Each is divided by its largest absolute value first (a map of zeros stays), and brought to the
    grid bilinearly. ``max`` is LayerCAM's (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943); the
    ``product`` of their positive parts, RefineCAM's (arXiv:2605.14641; grad-cam's does not divide
    by the largest values), keeps what all layers agree on. A single map is given as it is.
    """
    if len(maps) == 1:
        return maps[0]
    finest = [max(sides) for sides in zip(*(layer.shape[2:] for layer in maps), strict=True)]
    alike = torch.stack([resize_maps(relative_to_maximum(layer), finest) for layer in maps])
    if fusion == "mean":
        return alike.mean(0)
    return alike.relu().prod(0) if fusion == "product" else alike.amax(0)
