"""A light segmentation decoder over the levels of any backbone of timm."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mitate.errors import ClassifierError
from mitate.models.mode import evaluating

WIDTH = 64
FINEST = 4  # pixels a cell: finer levels cost much, and thin regions keep their shape at this one
MOST = 4  # levels of a backbone whose grids are all the same


class Decoder(nn.Module):
    """Gives one logit a region and pixel, from features coarse to fine.

    A feature pyramid (Lin et al. 2017, arXiv:1612.03144) that ends in one linear layer at its
    finest grid, as the semantic branch of Kirillov et al. 2019 does (arXiv:1901.02446); the logits
    are resized to the image. Where the backbone's finest grid is coarser than ``FINEST`` pixels a
    cell, the pyramid goes on by itself: so many doublings.

    Args:
        levels: which of the backbone's intermediate features, fine to coarse.
        channels: of each of these.
        regions: names of what is told apart from the background.
        doublings: how many times the finest grid is made twice as fine.
        width: channels of the pyramid.
    """

    def __init__(
        self,
        levels: Sequence[int],
        channels: Sequence[int],
        regions: Sequence[str],
        doublings: int = 0,
        width: int = WIDTH,
    ) -> None:
        super().__init__()
        self.levels, self.channels, self.regions = tuple(levels), tuple(channels), tuple(regions)
        self.doublings, self.width = doublings, width
        self.lateral = nn.ModuleList(nn.Conv2d(number, width, 1) for number in channels)
        self.smooth = nn.ModuleList(_smooth(width) for _ in [*channels, *range(doublings)])
        self.last = nn.Conv2d(width, len(regions), 1)

    def forward(
        self, features: Sequence[Float[Tensor, "b _ _ _"]], size: tuple[int, int]
    ) -> Float[Tensor, "b regions H W"]:
        """Logits at ``size`` (height, width) from the levels' features, fine to coarse."""
        smooth = iter(self.smooth)
        pyramid: Tensor | None = None
        for feature, lateral in zip(reversed(features), reversed(self.lateral), strict=True):
            level = lateral(feature)
            if pyramid is not None:
                level = level + _resized(pyramid, level.shape[-2:])
            pyramid = next(smooth)(level)
        assert pyramid is not None
        for doubled in smooth:
            height, width = pyramid.shape[-2:]
            pyramid = doubled(_resized(pyramid, (2 * height, 2 * width)))
        return _resized(self.last(pyramid), size)

    def description(self) -> dict[str, Any]:
        """The arguments that build it again."""
        names = ("levels", "channels", "regions", "doublings", "width")
        return {name: getattr(self, name) for name in names}


class MultiTask(nn.Module):
    """A backbone of timm with its own head and a decoder, in one forward."""

    def __init__(self, network: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.network, self.decoder = network, decoder

    def forward(
        self, inputs: Float[Tensor, "b c H W"]
    ) -> tuple[Float[Tensor, "b classes"], Float[Tensor, "b regions H W"]]:
        """Logits of the classes, as the network alone gives them, and of the regions."""
        final, features = _intermediates(self.network, inputs, self.decoder.levels)
        height, width = inputs.shape[-2:]
        return self.network.forward_head(final), self.decoder(features, (height, width))  # type: ignore[operator]


def decoder_for(
    network: nn.Module, inputs: Float[Tensor, "b c H W"], regions: Sequence[str]
) -> Decoder:
    """A decoder, not yet trained, for a network that takes such inputs.

    Raises:
        ClassifierError: a network whose intermediate features timm does not give.
    """
    if not hasattr(network, "forward_intermediates"):
        raise ClassifierError(
            f"{type(network).__name__} gives no intermediate features for a segmentation: take a "
            "network of timm that has forward_intermediates, such as convnext_nano, or train "
            "without a segmentation (--segmentation-weight 0 with --guide masks)"
        )
    with evaluating(network), torch.no_grad():
        final, features = _intermediates(network, inputs)
        again, logits = network.forward_head(final), network(inputs)  # type: ignore[operator]
    if not torch.allclose(again, logits, rtol=1e-4, atol=1e-5):
        raise ClassifierError(
            f"{type(network).__name__} gives other logits by way of its intermediate features than "
            "by itself, so no segmentation can be trained beside them: take another network"
        )
    cells = [_pixels_a_cell(inputs, feature) for feature in features]
    levels = _levels(cells)
    doublings = max(0, round(cells[levels[0]] / FINEST).bit_length() - 1)
    return Decoder(levels, [features[level].shape[1] for level in levels], regions, doublings)


def _levels(cells: Sequence[int]) -> list[int]:
    """The last level of each grid that is not too fine; of one grid alone some, evenly spread."""
    coarse = [level for level, size in enumerate(cells) if size >= FINEST] or [len(cells) - 1]
    last = {cells[level]: level for level in coarse}
    if len(last) > 1 or len(coarse) <= MOST:
        return sorted(last.values()) if len(last) > 1 else coarse
    return [coarse[(place + 1) * len(coarse) // MOST - 1] for place in range(MOST)]


def _pixels_a_cell(inputs: Tensor, feature: Tensor) -> int:
    return round(inputs.shape[-1] / feature.shape[-1])


def _intermediates(
    network: Any, inputs: Tensor, levels: Sequence[int] | None = None
) -> tuple[Tensor, list[Tensor]]:
    chosen = None if levels is None else list(levels)
    final, features = network.forward_intermediates(inputs, indices=chosen, output_fmt="NCHW")
    return final, features


def _smooth(width: int) -> nn.Sequential:
    # Norms over groups, because a batch may hold one image.
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.GroupNorm(max(1, width // 8), width),
        nn.ReLU(),
    )


def _resized(features: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(features, tuple(size), mode="bilinear", align_corners=False)
