"""Whether the pixels that a map names are those that the class depends on.

Where a probability is spoken of, it is the value itself for a regression.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.auditing.curves import FRACTIONS, IMPUTED, early, over_fraction, over_logarithm
from mitate.auditing.similarity import pearson
from mitate.auditing.steps import IMPUTED as BY_IMPUTING
from mitate.auditing.steps import Hidden, Regions, Shown, Step, curve
from mitate.auditing.table import metric
from mitate.tensors import exact, to_unit_range

PETSIUK = "Petsiuk et al. 2018, arXiv:1806.07421"
SAMEK = "Samek et al. 2017, doi:10.1109/TNNLS.2016.2599820"
RONG = "Rong et al. 2022, arXiv:2202.00449"
CHATTOPADHAY = "Chattopadhay et al. 2018, doi:10.1109/WACV.2018.00097"
POPPI = "Poppi et al. 2021, arXiv:2104.10252"
PLACES = 16  # cells along each side, of which random regions are made


def most_first(*, filling: str = "blur", ranking: str = "pixels") -> Iterator[Sequence[Step]]:
    """The curve of deletion: the most relevant pixels are taken away first."""
    yield curve("most", FRACTIONS, filling, ranking)


def least_last(*, filling: str = "blur", ranking: str = "pixels") -> Iterator[Sequence[Step]]:
    """The curve of insertion: at each fraction the least relevant rest is away."""
    yield curve("least", tuple(1 - fraction for fraction in FRACTIONS), filling, ranking)


def imputed(*, ranking: str = "pixels") -> Iterator[Sequence[Step]]:
    """The most relevant pixels imputed from the rest, and the least relevant."""
    yield curve("most", IMPUTED, BY_IMPUTING, ranking)
    yield curve("least", IMPUTED, BY_IMPUTING, ranking)


def shown(*, filling: str = "black") -> Iterator[Sequence[Step]]:
    """The image times the map."""
    yield (Shown(filling),)


def scattered(
    *, samples: int = 64, share: float = 0.2, filling: str = "blur"
) -> Iterator[Sequence[Step]]:
    """Random cells of a grid hidden together."""
    yield _hidden(Regions(samples, PLACES, share), filling)


def squares(
    *, samples: int = 64, share: float = 0.06, filling: str = "blur"
) -> Iterator[Sequence[Step]]:
    """Squares hidden at random places."""
    yield _hidden(Regions(samples, PLACES, share, square=True), filling)


@metric(
    "deletion",
    family="faithfulness",
    better="lower",
    range=(0, 1),
    cite=PETSIUK,
    asks=most_first,
    curves=("deletion",),
)
def deletion(most: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Mean probability over the fraction of pixels deleted, the most relevant first.

    The area under the curve by trapezoids, both ends included. It prefers blobs: on small things a
    blob in the centre can beat the true region, because it removes more of the object than edges
    do. ``early_deletion`` does not.
    """
    return over_fraction(most)


@metric(
    "log_deletion",
    family="faithfulness",
    better="lower",
    range=(0, 1),
    cite=f"{PETSIUK}, over the logarithm of the fraction",
    asks=most_first,
    curves=("deletion",),
)
def log_deletion(most: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Like deletion, over the logarithm of the fraction: a 320th counts as much as a half.

    From the least fraction of the curve to 1.
    """
    return over_logarithm(most)


@metric(
    "early_deletion",
    family="faithfulness",
    better="lower",
    range=(0, 1),
    cite=f"{PETSIUK}, of the first fifth",
    asks=most_first,
    curves=("deletion",),
)
def early_deletion(most: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Mean probability over the first 20 % of pixels deleted, the most relevant first.

    For classes that depend on small things: it orders maps as masks do where deletion does not.
    """
    return early(most)


@metric(
    "insertion",
    family="faithfulness",
    better="higher",
    range=(0, 1),
    cite=PETSIUK,
    asks=least_last,
    curves=("insertion",),
)
def insertion(shown: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Mean probability over the fraction of pixels inserted, the most relevant first.

    They are inserted into the filling. The area under the curve by trapezoids, both ends included.
    It prefers blobs, as deletion does.
    """
    return over_fraction(shown)


@metric(
    "log_insertion",
    family="faithfulness",
    better="higher",
    range=(0, 1),
    cite=f"{PETSIUK}, over the logarithm of the fraction",
    asks=least_last,
    curves=("insertion",),
)
def log_insertion(shown: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Like insertion, over the logarithm of the fraction: a 320th counts as much as a half."""
    return over_logarithm(shown)


@metric(
    "aopc",
    family="faithfulness",
    better="higher",
    range=(-1, 1),
    cite=f"{SAMEK} (eq. 12)",
    asks=most_first,
    curves=("deletion",),
)
def aopc(own: Float[Tensor, " b"], most: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Mean fall of the probability over the fraction deleted, the most relevant first.

    Pixel flipping: the area over the curve of deletion. The paper's mean is over its steps; here it
    is over the fraction, so that it does not depend on the number of steps.
    """
    return own - over_fraction(most)


@metric(
    "road",
    family="faithfulness",
    better="higher",
    range=(-0.5, 0.5),
    cite=RONG,
    asks=imputed,
    curves=("road_most", "road_least"),
)
def road(most: Float[Tensor, "b steps"], least: Float[Tensor, "b steps"]) -> Float[Tensor, " b"]:
    """Half of what probability is higher without the least relevant pixels than without the most.

    The removed pixels are imputed from their neighbours with noise (sec. 4.2), at the paper's seven
    fractions; the means over the fractions are compared, as in grad-cam (Gildenblat 2021).
    """
    return (exact(least).mean(1) - exact(most).mean(1)) / 2


@metric(
    "road_most",
    family="faithfulness",
    better="lower",
    range=(0, 1),
    cite=RONG,
    asks=imputed,
    curves=("road_most", "road_least"),
)
def road_most(
    most: Float[Tensor, "b steps"], least: Float[Tensor, "b steps"]
) -> Float[Tensor, " b"]:
    """Mean probability without the most relevant pixels, which are imputed with noise."""
    return exact(most).mean(1)


@metric(
    "road_least",
    family="faithfulness",
    better="higher",
    range=(0, 1),
    cite=RONG,
    asks=imputed,
    curves=("road_most", "road_least"),
)
def road_least(
    most: Float[Tensor, "b steps"], least: Float[Tensor, "b steps"]
) -> Float[Tensor, " b"]:
    """Mean probability without the least relevant pixels, which are imputed with noise."""
    return exact(least).mean(1)


@metric(
    "average_drop",
    family="faithfulness",
    better="lower",
    range=(0, 1),
    cite=CHATTOPADHAY,
    asks=shown,
)
def average_drop(own: Float[Tensor, " b"], masked: Float[Tensor, "b 1"]) -> Float[Tensor, " b"]:
    """Share of the probability that is lost when the image is seen through the map.

    max(0, own - masked) / own. The map is scaled to [0, 1] at pixels and multiplied with the image
    before normalisation. NaN where the probability is not positive.
    """
    return torch.where(own > 0, (own - masked[:, 0]).clamp_min(0) / own, torch.nan)


@metric(
    "increase",
    family="faithfulness",
    better="higher",
    range=(0, 1),
    cite=CHATTOPADHAY,
    asks=shown,
)
def increase(own: Float[Tensor, " b"], masked: Float[Tensor, "b 1"]) -> Float[Tensor, " b"]:
    """Whether the probability is higher when the image is seen through the map: 1 or 0."""
    return (masked[:, 0] > own).to(own.dtype)


@metric(
    "gain",
    family="faithfulness",
    better="higher",
    range=(0, 1),
    cite="Zhang et al. 2024, arXiv:2301.07002 (average gain)",
    asks=shown,
)
def gain(own: Float[Tensor, " b"], masked: Float[Tensor, "b 1"]) -> Float[Tensor, " b"]:
    """Share of what the probability lacked that it wins when the image is seen through the map.

    max(0, masked - own) / (1 - own). NaN where it is 1 already.
    """
    return torch.where(own < 1, (masked[:, 0] - own).clamp_min(0) / (1 - own), torch.nan)


@metric(
    "coherency",
    family="faithfulness",
    better="higher",
    range=(0, 1),
    cite=POPPI,
)
def coherency(maps: Float[Tensor, "b h w"], again: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """How alike the map of the image seen through its map is to the map itself.

    Pearson's correlation brought to [0, 1]. NaN where one of the two is constant.
    """
    return (1 + pearson(again, maps)) / 2


@metric(
    "adcc",
    family="faithfulness",
    better="higher",
    range=(0, 1),
    cite=POPPI,
    asks=shown,
)
def adcc(
    maps: Float[Tensor, "b h w"],
    again: Float[Tensor, "b h w"],
    pixels: Float[Tensor, "b H W"],
    own: Float[Tensor, " b"],
    masked: Float[Tensor, "b 1"],
) -> Float[Tensor, " b"]:
    """Harmonic mean of coherency, 1 - complexity and 1 - average drop.

    Complexity is the mean of the map scaled to [0, 1]. Zero where one of the three is; NaN where
    one is undefined.
    """
    parts = torch.stack(
        [coherency(maps, again), 1 - complexity(pixels), 1 - average_drop(own, masked)]
    )
    mean = 3 / (1 / parts.clamp_min(torch.finfo(parts.dtype).tiny)).sum(0)
    return torch.where((parts <= 0).any(0), 0, mean).where(~parts.isnan().any(0), torch.nan)


def complexity(pixels: Float[Tensor, "b H W"]) -> Float[Tensor, " b"]:
    """Mean of each map scaled to [0, 1] (Poppi et al. 2021): its L1 norm for an area of 1."""
    return to_unit_range(pixels).mean((-2, -1))


@metric(
    "faithfulness_correlation",
    family="faithfulness",
    better="higher",
    range=(-1, 1),
    cite="Bhatt et al. 2020, doi:10.24963/ijcai.2020/417 (eq. 2)",
    asks=scattered,
)
def faithfulness_correlation(
    pixels: Float[Tensor, "b H W"],
    generators: Sequence[torch.Generator],
    own: Float[Tensor, " b"],
    hidden: Float[Tensor, "b samples"],
    *,
    samples: int = 64,
    share: float = 0.2,
) -> Float[Tensor, " b"]:
    """Correlation of the map's sum over hidden features with the fall of the probability.

    The features are the cells of a grid of 16 x 16, of which random fifths are hidden: the same for
    every contender. NaN where the map or the probability does not vary over them.
    """
    sums = region_sums(pixels, Regions(samples, PLACES, share), generators)
    return pearson(sums, own[:, None] - hidden)


@metric(
    "infidelity",
    family="faithfulness",
    better="lower",
    range=(0, 1),
    cite="Yeh et al. 2019, arXiv:1901.09392 (def. 2.1)",
    asks=squares,
)
def infidelity(
    pixels: Float[Tensor, "b H W"],
    generators: Sequence[torch.Generator],
    own: Float[Tensor, " b"],
    hidden: Float[Tensor, "b samples"],
    *,
    samples: int = 64,
    share: float = 0.06,
) -> Float[Tensor, " b"]:
    """Mean square difference of the probability's fall and the map's sum over what is hidden.

    The map's scale is fitted by least squares (as captum's ``normalize``), so that it tells shape
    alone; squares of 4 x 4 of 16 x 16 cells are hidden, the same for every contender. The square of
    the falls themselves for a map that is zero on all squares.
    """
    sums = exact(region_sums(pixels, Regions(samples, PLACES, share, square=True), generators))
    falls = exact(own[:, None] - hidden)
    power = sums.square().sum(1)
    scale = torch.where(power > 0, (sums * falls).sum(1) / power.clamp_min(1e-300), 0)
    return (scale[:, None] * sums - falls).square().mean(1)


def region_sums(
    pixels: Float[Tensor, "b H W"], regions: Regions, generators: Sequence[torch.Generator]
) -> Float[Tensor, "b samples"]:
    """The map's sum over each of the regions that are drawn for its image."""
    rows, columns = (regions.cell_of(side, pixels.device) for side in pixels.shape[-2:])
    cells = pixels.new_zeros(len(pixels), regions.grid, regions.grid)
    index = (rows[:, None] * regions.grid + columns[None, :]).flatten()
    cells.flatten(1).index_add_(1, index, pixels.flatten(1))
    drawn = regions.drawn(list(generators)).to(cells)
    return torch.einsum("bnyx,byx->bn", drawn, cells)


def _hidden(regions: Regions, filling: str) -> tuple[Step, ...]:
    return tuple(Hidden(regions, number, filling) for number in range(regions.samples))
