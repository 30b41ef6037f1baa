"""Whether a map stays as it is when the image hardly changes."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.auditing.similarity import pearson
from mitate.auditing.table import metric
from mitate.tensors import relative_to_maximum

Explain = Callable[[Tensor, Tensor], Tensor]


def _samples(*, samples: int = 8) -> int:
    return samples


@metric(
    "max_sensitivity",
    family="robustness",
    better="lower",
    range=(0, float("inf")),
    cite="Yeh et al. 2019, arXiv:1901.09392 (def. 3.1)",
    explanations=_samples,
)
def max_sensitivity(
    maps: Float[Tensor, "b h w"],
    images: Float[Tensor, "b channels H W"],
    classes: Int[Tensor, " b"],
    generators: Sequence[torch.Generator],
    explain: Explain,
    *,
    samples: int = 8,
    radius: float = 0.02,
) -> Float[Tensor, " b"]:
    """The most that the map changes under small noise, as a share of its size.

    Size is the root of the sum of squares. The noise is uniform within ``radius`` of the image's
    range. NaN for a map of zeros, or where a noisy image's map is not finite.
    """
    span = images.flatten(1).amax(1) - images.flatten(1).amin(1)
    size, worst = _size(maps), maps.new_zeros(len(maps))
    for _ in range(samples):
        drawn = [
            torch.rand(image.shape, generator=generator, dtype=torch.float64)
            for image, generator in zip(images, generators, strict=True)
        ]
        noise = (2 * torch.stack(drawn) - 1).to(images) * radius * span[:, None, None, None]
        change = _size(explain(images + noise, classes) - maps)
        worst = torch.where(change.isfinite(), torch.maximum(worst, change), torch.nan)
    return torch.where(size > 0, worst / size, torch.nan)


@metric(
    "stability",
    family="robustness",
    better="higher",
    range=(-1, 1),
    cite="Alvarez-Melis and Jaakkola 2018, arXiv:1806.08049 (with correlation)",
)
def stability(
    maps: Float[Tensor, "b h w"], variants: Float[Tensor, "b variants h w"]
) -> Float[Tensor, " b"]:
    """Mean correlation of the map with those of the image mirrored and at other contrasts.

    Pearson's, the mirrored maps mirrored back; the variants are those of ``augment``. NaN where a
    map is constant or not finite.
    """
    found = [pearson(maps, variant) for variant in variants.unbind(1)]
    return torch.stack(found).mean(0)


def spread(
    maps: Float[Tensor, "b h w"], variants: Float[Tensor, "b variants h w"]
) -> Float[Tensor, "b h w"]:
    """Where the map is not stable: the deviation over the image and its variants, cell by cell.

    Each map is divided by its largest absolute value.
    """
    every = torch.cat([maps[:, None], variants], 1)
    return relative_to_maximum(every).std(1, correction=0)


def _size(maps: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    return maps.flatten(1).square().sum(1).sqrt()
