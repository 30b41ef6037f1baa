"""The optimised mask: the smallest places that carry a class, found by gradients of a mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.methods.perturbed import blurred
from mitate.explain.methods.small import Layers, agreement
from mitate.explain.methods.table import Cost, method
from mitate.explain.scorer import Scorer
from mitate.models.tasks import Task
from mitate.tensors import at_least_single, relative_to_maximum, resize_maps, resizing

BEGUN = 0.5  # the start's largest value
RATE = 0.2
MOMENTUM = 0.8
CHEAP, DEAR = 2.0, 160.0  # prices of a mask of the whole image, at the first step and at the last
SOFTNESS = 0.1  # of the edge of a level set, on masks in [0, 1]
LOWEST, HIGHEST = 0.1, 0.9  # levels
GOLDEN = (5**0.5 - 1) / 2  # its multiples, without their whole part, are even at any number
ROUGH = 1 / 6  # of the steps is left out of the mean
OF_A_VALUE = 4.0  # log-odds that a regression's value stands for
SLACK = 2.0  # a class is gone at log-odds of 2 below even
VANISHING = 15.0
LIFT = 256.0  # of slopes, against underflow in half precision
SETTLED, PATIENCE = 0.01, 3  # share of the mean mask that a step moves it by, and steps in a row
NO_GRADIENT = (
    "loupe follows gradients, and this network gives none for its input (it runs under no_grad, or "
    "is quantised): use a method that only runs it, such as occlusion or rise"
)
POWER = 4  # of the mean mask
TAIL = 1e-6  # under the map: what the mask leaves out keeps an order
AROUND = 1 / 8  # of the image's short side: the deviation of the bell that tells what is near
HIDING = 1 / 3  # of the steps hide only; from there on every second one shows


@method(
    "loupe",
    family="small things",
    cost=Cost(1, per_class=2, per_step=3),
    cite="mitate; kin: Fong and Vedaldi 2017, arXiv:1704.03296, Fong et al. 2019, "
    "arXiv:1910.08485, Qi et al. 2020, arXiv:1905.00954, Khorram et al. 2021, arXiv:2012.15783",
    own_grid=True,
)
def loupe(
    pyramid: Layers, scorer: Scorer, *, steps: int = 60, cells: int = 48, rate: float = RATE
) -> Float[Tensor, "b k H W"]:
    """The smallest mask whose level sets take the class away where hidden, and keep it where shown.

    It starts from the product that ``glance`` makes, without its square, and goes down the slopes
    of ``share_left`` and of the area's price, on a grid of its own, all images and classes at once.
    Each step takes another level set, as a curve of deletion does, so that the order of the mask's
    values is what is learned; and each step's price of the area is higher, so that a cell stays as
    long as it is worth it. Steps take turns: one hides the level set behind the image's blur; the
    next hides it behind the mean colour or, after the first third, shows it alone on that. The map
    is the fourth power of the mean mask, at the image's pixels, as the network saw it: on the grid
    itself the power would leave more beside the mask's edges. Under it lies a millionth of what is
    near it times the start, which ranks what the mask leaves out. Where nothing changes the class
    there is no map.

    Args:
        pyramid: what ``glance`` needs.
        scorer: runs the masked forwards, with gradients.
        steps: of the descent, at most, each of 3 forwards a class. A mask whose mean has settled
            is left alone.
        cells: of the mask's grid along the image's short side.
        rate: what the cell of the steepest slope moves in a step, on masks in [0, 1]. With a
            smaller one rounding changes a map less, more of it lies on what tells most, and its
            order is worse.

    Raises:
        UsageError: no step or no cell, or a rate beyond (0, 1]; or a network without gradients.
    """
    if steps < 1 or cells < 1:
        raise UsageError("use 1 step and 1 cell or more")
    if not 0 < rate <= 1:
        raise UsageError(f"rate is {rate:g}: use more than 0 and at most 1, such as {RATE:g}")
    size = scorer.images.shape[-2:]
    start = on_grid(relative_to_maximum(agreement(pyramid)), size, cells)
    search = Search.of(scorer)
    descent = Descent(BEGUN * start.flatten(0, 1), int(ROUGH * steps), rate)
    for step in range(steps):
        moving = descent.moving()
        if not len(moving):
            break
        price = CHEAP * (DEAR / CHEAP) ** (step / max(1, steps - 1))
        level = LOWEST + (HIGHEST - LOWEST) * ((0.5 + step * GOLDEN) % 1)
        odd = step % 2
        shows = bool(odd) and step >= HIDING * steps
        slopes = [
            search.slopes(chosen, descent.masks[chosen], level, price, odd, shows)
            for chosen in torch.split(moving, scorer.batch_size)
        ]
        descent.step(moving, torch.cat(slopes))
    told = search.felt.reshape(start.shape[:2])[..., None, None]
    mean = torch.where(told, descent.mean.reshape(start.shape), 0)
    tail = TAIL * surroundings(mean, start) * (mean.amax((-2, -1), keepdim=True) > 0)
    return resize_maps(mean, size) ** POWER + resize_maps(tail, size)


@dataclass(frozen=True)
class Search:
    """What masks are worth, and which way they get better.

    Attributes:
        scorer: runs the masked forwards.
        behind: the images as they are seen where they are hidden: blurred, and their mean colour.
        odds: log-odds of the explained classes for the images.
        unit: what they are counted in: 1, and for a regression a quarter of the value's size.
        contested: how much the rivals of each class count, 0 to 1: twice its probability.
        felt: of each mask, whether any slope has told anything of its class.
    """

    scorer: Scorer
    behind: tuple[Float[Tensor, "b channels H W"], Float[Tensor, "b channels H W"]]
    odds: Float[Tensor, "b k"]
    unit: Float[Tensor, "b k"]
    contested: Float[Tensor, "b k"]
    felt: Bool[Tensor, " b_k"]

    @staticmethod
    def of(scorer: Scorer) -> "Search":
        """For all images and classes of a scorer."""
        whole = at_least_single(scorer.whole)
        odds = log_odds(whole, scorer.classes, scorer.task)
        sizes = odds.abs() / OF_A_VALUE if scorer.task == "regression" else torch.ones_like(odds)
        unit = torch.where(sizes > 0, sizes, 1)
        images = scorer.images
        colour = images.mean((-2, -1), keepdim=True).expand_as(images)
        contested = odds.sigmoid().mul(2).clamp_max(1)
        felt = torch.zeros(odds.numel(), dtype=torch.bool, device=odds.device)
        return Search(scorer, (blurred(images), colour), odds / unit, unit, contested, felt)

    def slopes(
        self,
        numbers: Int[Tensor, " n"],
        masks: Float[Tensor, "n h w"],
        level: float,
        price: float,
        behind: int = 0,
        shows: bool = False,
    ) -> Float[Tensor, "n h w"]:
        """The gradient of each mask's loss; ``numbers`` count images and, within them, classes.

        Args:
            numbers: which masks.
            masks: their values.
            level: of the level set that is taken.
            price: of a mask of the whole image.
            behind: which of the pictures behind.
            shows: whether the level set alone is shown, and not hidden.

        Raises:
            UsageError: the network gives no gradient.
        """
        classes = self.odds.shape[1]
        owners, places = numbers // classes, numbers % classes
        leaf = masks.detach().requires_grad_()
        pixels = level_set(self._enlarged(leaf), level)
        kept = pixels if shows else 1 - pixels
        logits = self.scorer.masked_logits(owners, kept, self.behind[behind])
        self.scorer.advance(3 * len(owners))
        seen = self._odds_seen(logits, owners, places) / self.unit[owners, places]
        if not seen.requires_grad:
            raise UsageError(NO_GRADIENT)
        left = share_left(seen, self.odds[owners, places], shows)
        found = torch.autograd.grad(LIFT * left.sum(), leaf, allow_unused=True)[0]
        if found is None:
            raise UsageError(NO_GRADIENT)
        self.felt[numbers] |= found.flatten(1).any(-1)
        return found / LIFT + price / masks[0].numel()

    def _enlarged(self, masks: Float[Tensor, "n h w"]) -> Float[Tensor, "n 1 H W"]:
        sides = zip(masks.shape[1:], self.scorer.images.shape[-2:], strict=True)
        down, across = (resizing(cells, pixels).to(masks) for cells, pixels in sides)
        return (down @ (masks @ across.mT))[:, None]

    def _odds_seen(self, logits: Tensor, owners: Tensor, places: Tensor) -> Float[Tensor, " n"]:
        """Log-odds of each mask's class; of an improbable one how its own logit moves.

        What lowers the probability of an improbable class may be what makes a rival surer, wherever
        the class itself is. So its logit over the mean of all logits moves it in the place of its
        log-odds, the more the less probable it is.
        """
        wanted, task = self.scorer.classes[owners, places, None], self.scorer.task
        against_all = log_odds(logits, wanted, task)[:, 0]
        if not _has_rivals(logits, task):
            return against_all
        whole = at_least_single(self.scorer.whole)[owners]
        moved = _over_mean(logits, wanted) - _over_mean(whole, wanted)
        alone = moved + log_odds(whole, wanted, task)[:, 0]
        return torch.lerp(alone, against_all, self.contested[owners, places])


def level_set(masks: Float[Tensor, "n 1 H W"], level: float) -> Float[Tensor, "n 1 H W"]:
    """1 well over the level and 0 well under it, with a logistic edge; 0 and 1 stay as they are."""
    start = masks.new_tensor(-level / SOFTNESS)
    low, high = torch.add(start, masks.new_tensor([0.0, 1.0]), alpha=1 / SOFTNESS).sigmoid()
    edge: Tensor = torch.add(start, masks, alpha=1 / SOFTNESS).sigmoid()
    return edge.sub(low).div(high - low)


def share_left(
    seen: Float[Tensor, " n"], odds: Float[Tensor, " n"], shows: bool
) -> Float[Tensor, " n"]:
    """The share of a class that hiding leaves, or less that share where the mask shows.

    z(seen + 2) / z(odds + 2), where z(x) = log(1 + exp x): of a sure class it is the share of the
    log-odds, which has a slope however sure the network is, and of a class that is hardly there the
    share of the probability. Once the class is gone it is flat. Where what is shown is surer than
    the image, it has the slope of the logarithm of z, so that an improbable class pulls no harder
    than others.

    Args:
        seen: log-odds of the class where the mask hides, or shows.
        odds: of the image itself.
        shows: whether the mask shows.
    """
    own, whole = _log_softplus(seen + SLACK), _log_softplus(odds + SLACK)
    if not shows:
        return (own - whole).exp()
    return -(own - torch.maximum(own.detach(), whole)).exp()


def _log_softplus(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The value itself where it is so low that the softplus would vanish."""
    low = values < -VANISHING
    return torch.where(low, values, F.softplus(torch.where(low, 0, values)).log())


def log_odds(
    logits: Float[Tensor, "n classes"], wanted: Int[Tensor, "n k"], task: Task
) -> Float[Tensor, "n k"]:
    """Logarithms of p / (1 - p) of the wanted classes; of a regression the values."""
    own = logits.gather(1, wanted)
    if not _has_rivals(logits, task):
        return own
    every = logits[:, None].expand(-1, wanted.shape[1], -1)
    return own - every.scatter(2, wanted[..., None], float("-inf")).logsumexp(-1)


def _has_rivals(logits: Tensor, task: Task) -> bool:
    return task == "single-label" and logits.shape[1] > 1


def _over_mean(logits: Tensor, wanted: Tensor) -> Float[Tensor, " n"]:
    return logits.gather(1, wanted)[:, 0] - logits.mean(1)


class Descent:
    """Masks that go down their slopes within [0, 1], each until its mean has settled.

    Slopes are smoothed over neighbours and over steps, and the steepest cell of a mask moves by
    the rate.
    """

    def __init__(self, masks: Float[Tensor, "n h w"], rough: int, rate: float) -> None:
        """Begin at masks; so many steps are left out of the mean."""
        self.masks, self.mean = masks.clone(), torch.zeros_like(masks)
        self.momentum = torch.zeros_like(masks)
        self.still = torch.zeros(len(masks), device=masks.device, dtype=torch.long)
        self.rough, self.rate, self.taken = rough, rate, 0

    def moving(self) -> Int[Tensor, " m"]:
        """Which masks have not settled."""
        return (self.still < PATIENCE).nonzero()[:, 0]

    def step(self, chosen: Int[Tensor, " m"], slopes: Float[Tensor, "m h w"]) -> None:
        """Take a step with all masks that move."""
        self.taken += 1
        momentum = MOMENTUM * self.momentum[chosen] + (1 - MOMENTUM) * smoothed(slopes)
        self.momentum[chosen] = momentum
        steepest = momentum.abs().amax((-2, -1), keepdim=True)
        ways = torch.where(steepest > 0, momentum / torch.where(steepest > 0, steepest, 1), 0)
        self.masks[chosen] = (self.masks[chosen] - self.rate * ways).clamp(0, 1)
        if self.taken > self.rough:
            self._average(chosen)

    def _average(self, chosen: Tensor) -> None:
        change = (self.masks[chosen] - self.mean[chosen]) / (self.taken - self.rough)
        self.mean[chosen] += change
        moved, whole = change.abs().mean((-2, -1)), self.mean[chosen].mean((-2, -1))
        self.still[chosen] = torch.where(moved <= SETTLED * whole, self.still[chosen] + 1, 0)


def smoothed(slopes: Float[Tensor, "m h w"]) -> Float[Tensor, "m h w"]:
    """Each cell with its neighbours, by weights of 1 2 1 along each axis; the edge is repeated."""
    bell = slopes.new_tensor([1.0, 2.0, 1.0]) / 4
    padded = F.pad(slopes[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, (bell[:, None] * bell)[None, None])[:, 0]


def surroundings(
    mean: Float[Tensor, "b k h w"], start: Float[Tensor, "b k h w"]
) -> Float[Tensor, "b k h w"]:
    """How near a place is to what the mask shows, times the start.

    An object goes on around the places that tell it, and where the start is strong.
    """
    near = relative_to_maximum(_spread(mean**POWER))
    return (near + TAIL) * (start + TAIL)  # far from it the start goes on


def _spread(maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Each map under a bell; beyond its edge is nothing."""
    deviation = AROUND * min(maps.shape[-2:])
    down, across = (_bells(cells, deviation).to(maps) for cells in maps.shape[-2:])
    return down @ maps @ across


def _bells(cells: int, deviation: float) -> Float[Tensor, "cells cells"]:
    places = torch.arange(cells)
    return torch.exp(-(((places[:, None] - places) / deviation) ** 2) / 2)


def on_grid(
    maps: Float[Tensor, "b k h w"], size: Sequence[int], cells: int
) -> Float[Tensor, "b k rows columns"]:
    """Maps on a grid of square cells, so many of them along the image's short side."""
    short = min(size)
    rows, columns = (max(1, min(side, round(cells * side / short))) for side in size)
    return F.adaptive_avg_pool2d(resize_maps(maps, size), (rows, columns))
