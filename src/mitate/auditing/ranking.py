"""The order in which the pixels of a map go."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.tensors import exact, to_unit_range

LEVELS = 2**20  # values that differ by less than this part of the map's range are equal


def levels(values: Float[Tensor, "b H W"]) -> Int[Tensor, "b H W"]:
    """Values as whole numbers from 0, the map's least, so that equal ones are equal exactly.

    Bilinear interpolation gives equal cells values that differ by rounding. A map whose range is a
    millionth of its size is constant.
    """
    doubled = exact(values)
    low, high = doubled.amin((-2, -1), keepdim=True), doubled.amax((-2, -1), keepdim=True)
    varied = high - low > torch.maximum(low.abs(), high.abs()) / LEVELS
    found = torch.where(varied, to_unit_range(doubled) * LEVELS, 0).round().long()
    return found.to(values.device)


def tie_orders(
    pixels: int, generators: list[torch.Generator], device: torch.device
) -> Int[Tensor, "b pixels"]:
    """An order of the pixels drawn for each image, in which equal values go."""
    drawn = [torch.randperm(pixels, generator=generator) for generator in generators]
    return torch.stack(drawn).to(device)


def ranks(values: Float[Tensor, "b H W"], orders: Int[Tensor, "b pixels"]) -> Int[Tensor, "b H W"]:
    """The place of each pixel from the most relevant, 0, to the least.

    Values that differ by less than a millionth of their map's range are equal, and go in the order
    that ``orders`` gives: the same for every map of an image, and never that of memory, which would
    take a constant map from its upper left corner.
    """
    found = levels(values).flatten(1)
    number = found.shape[1]
    sequence = ((LEVELS - found) * number + orders).argsort(1)
    places = torch.arange(number, device=values.device).expand_as(sequence)
    return torch.empty_like(sequence).scatter_(1, sequence, places).reshape(values.shape)
