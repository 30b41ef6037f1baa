"""Maps made without looking at the network: the floor that a real map must beat."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.methods.table import Cost, method

FEWEST_CELLS = 3  # to a side of a blob


@method(
    "random",
    family="control",
    cost=Cost(1),
    cite="control: Adebayo et al. 2018, arXiv:1810.03292",
)
def random(
    images: Float[Tensor, "b channels H W"],
    grid: tuple[int, int],
    classes: Int[Tensor, "b k"],
    generators: Sequence[torch.Generator],
) -> Float[Tensor, "b k h w"]:
    """Independent uniform numbers in [0, 1], another draw for every image and class."""
    draws = [
        torch.rand(int(classes.max()) + 1, *grid, generator=generator, dtype=torch.float64)[of]
        for of, generator in zip(classes.cpu(), generators, strict=True)
    ]
    return torch.stack(draws).to(images.dtype).to(images.device)


@method(
    "centre",
    family="control",
    cost=Cost(1),
    cite="control: Judd et al. 2009 (centre prior), doi:10.1109/ICCV.2009.5459462",
)
def centre(
    images: Float[Tensor, "b channels H W"],
    grid: tuple[int, int],
    classes: Int[Tensor, "b k"],
    generators: Sequence[torch.Generator],
    *,
    sigma: float = 0.25,
) -> Float[Tensor, "b k h w"]:
    """A Gaussian blob in the middle; ``sigma`` is a fraction of each side.

    A side of one or two cells gets three, since the blob would be flat there.

    Raises:
        UsageError: sigma is not positive.
    """
    if not sigma > 0:
        raise UsageError(f"sigma is {sigma}: use a positive fraction of the side")
    down, across = (_bell(max(cells, FEWEST_CELLS), sigma, images) for cells in grid)
    blob = down[:, None] * across[None, :]
    return blob.expand(*classes.shape, *blob.shape).clone()


@method(
    "edges",
    family="control",
    cost=Cost(1),
    cite="control: Adebayo et al. 2018, arXiv:1810.03292 (edge detector)",
)
def edges(
    images: Float[Tensor, "b channels H W"],
    grid: tuple[int, int],
    classes: Int[Tensor, "b k"],
    generators: Sequence[torch.Generator],
) -> Float[Tensor, "b k h w"]:
    """Strength of the image's edges (Sobel on the mean channel), averaged over each cell."""
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = grey.new_tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    kernels = torch.stack([across, across.T])[:, None]
    strength = F.conv2d(grey, kernels).square().sum(1, keepdim=True).sqrt()
    return F.adaptive_avg_pool2d(strength, grid).expand(-1, classes.shape[1], -1, -1).clone()


def _bell(cells: int, sigma: float, like: Tensor) -> Float[Tensor, " cells"]:
    places = (torch.arange(cells, device=like.device, dtype=like.dtype) + 0.5) / cells - 0.5
    return torch.exp(-0.5 * (places / sigma) ** 2)
