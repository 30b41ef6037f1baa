"""Background in the place of a region: noisy linear imputation."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mitate import imports
from mitate.errors import UsageError

STEPS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
STRAIGHT, DIAGONAL = 1 / 6, 1 / 12
NOISE = 0.01


class Imputation:
    """Fills one region of many images with what surrounds it.

    Each hidden pixel becomes the weighted mean of its eight neighbours, those beside it with 1/6
    and those across with 1/12, hidden ones by their own mean: one linear system, plus a little
    noise (Rong et al. 2022, ROAD, sec. 4.2, arXiv:2202.00449). It is factorised once for all images
    and channels. The mean of neighbours is the same before and after a normalisation of the pixels.
    """

    def __init__(self, region: Bool[np.ndarray, "H W"]) -> None:
        """Factorise the system of a region.

        Raises:
            UsageError: the region is empty, or the whole image, which leaves nothing to fill from.
        """
        if not region.any() or region.all():
            raise UsageError("a region to impute has a pixel, and leaves one of the image")
        self.region = torch.from_numpy(region)
        inner, self._outer = _system(region)
        self._solve = imports.scipy("sparse.linalg").splu(inner.tocsc()).solve

    def __call__(
        self, images: Float[Tensor, "b channels H W"], generators: list[torch.Generator]
    ) -> Float[Tensor, "b channels H W"]:
        """Copies of images with the region filled; the noise is 1 % of each image's range.

        Args:
            images: preprocessed, on any device.
            generators: one an image, on the CPU.
        """
        filled = images.clone()
        region = self.region.to(images.device)
        known = images[..., ~region].double().cpu().numpy()
        flat = known.reshape(-1, known.shape[-1]).T
        hidden = self._solve(self._outer @ flat).T.reshape(*known.shape[:2], -1)
        noise = torch.stack([_noise(hidden.shape[1:], generator) for generator in generators])
        low, high = images.flatten(1).amin(1), images.flatten(1).amax(1)
        spread = NOISE * (high - low).double().cpu()[:, None, None]
        filled[..., region] = (torch.from_numpy(hidden) + spread * noise).to(images)
        return filled


def _noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _system(region: Bool[np.ndarray, "H W"]) -> tuple[Any, Any]:
    """Sparse A and B with A @ hidden = B @ known, pixels counted row by row."""
    scipy = imports.scipy("sparse")
    height, width = region.shape
    number = np.where(region, np.cumsum(region).reshape(region.shape), 0) - 1
    known = np.cumsum(~region).reshape(region.shape) - 1
    rows, columns = np.nonzero(region)
    total = np.zeros(len(rows))
    inside: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    outside: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for down, across in STEPS:
        y, x = rows + down, columns + across
        there = np.flatnonzero((y >= 0) & (y < height) & (x >= 0) & (x < width))
        weight = STRAIGHT if 0 in (down, across) else DIAGONAL
        total[there] += weight
        y, x = y[there], x[there]
        hidden = region[y, x]
        for chosen, numbers, entries in ((hidden, number, inside), (~hidden, known, outside)):
            spot = numbers[y[chosen], x[chosen]]
            entries.append((there[chosen], spot, np.full(len(spot), weight)))

    def sparse(entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]], across: int) -> Any:
        i, j, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        return scipy.coo_matrix((values, (i, j)), shape=(len(rows), across)).tocsr()

    inner = scipy.diags(total) - sparse(inside, len(rows))
    return inner, sparse(outside, int((~region).sum()))
