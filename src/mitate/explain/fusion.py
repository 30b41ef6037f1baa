"""One map of the maps of several layers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.errors import UsageError
from mitate.tensors import relative_to_maximum, resize_maps

FUSIONS = ("max", "mean", "product")


def checked_fusion(fusion: str) -> str:
    """The name of a fusion.

    Raises:
        UsageError: no such fusion.
    """
    if fusion not in FUSIONS:
        raise UsageError(f"fusion {fusion!r}: use one of {', '.join(FUSIONS)}")
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
