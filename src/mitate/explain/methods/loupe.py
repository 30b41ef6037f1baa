"""The optimised mask: the smallest places that carry the class, found by gradients of a mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.methods.perturbed import blurred
from mitate.explain.methods.small import Layers, glance
from mitate.explain.methods.table import Cost, method
from mitate.explain.scorer import Scorer
from mitate.tensors import relative_to_maximum, resize_maps

RATE = 0.1  # Adam's, on masks in [0, 1]
BEGUN = 0.5  # the start's largest value
HINT = 0.1  # weight of the logarithm, which has a slope where a saturated probability has none
NOISE = 0.1  # deviation on preprocessed pixels: a mask that only works on these pixels does not pay
LIFT = 256.0  # of slopes, against underflow in half precision
SETTLED, PATIENCE = 0.02, 3  # a step's share of the mask, and steps in a row
TAIL = 1e-3  # of the start under the mask: what the mask left out keeps an order


@method(
    "loupe",
    family="small things",
    cost=Cost(1, per_class=2, per_step=6),
    cite="mitate; kin: Fong and Vedaldi 2017, arXiv:1704.03296, Fong et al. 2019, "
    "arXiv:1910.08485, Qi et al. 2020, arXiv:1905.00954, Khorram et al. 2021, arXiv:2012.15783",
    own_grid=True,
)
def loupe(
    pyramid: Layers,
    scorer: Scorer,
    generators: Sequence[torch.Generator],
    *,
    steps: int = 30,
    cells: int = 16,
    area: float = 8.0,
) -> Float[Tensor, "b k h w"]:
    """The smallest mask that takes the class away where it blurs, and shows it where it is clear.

    It starts from ``glance`` and descends on a grid of its own, all images and classes at once; a
    mask that has settled is left alone.

    Args:
        pyramid: what ``glance`` needs.
        scorer: runs the masked forwards, with gradients.
        generators: of the noise, which the classes of an image share.
        steps: of the descent, at most; each costs 6 forwards a class.
        cells: of the mask's grid along the image's short side.
        area: what a mask of the whole image costs, where a probability of 1 is worth 1.

    Raises:
        UsageError: no step, no cell or no price; or a network without gradients.
    """
    if steps < 1 or cells < 1 or not area > 0:
        raise UsageError("use 1 step and 1 cell or more, and an area over 0")
    start = _on_grid(relative_to_maximum(glance(pyramid)), scorer.images.shape[-2:], cells)
    number, classes = scorer.classes.shape
    owners = torch.arange(number, device=start.device).repeat_interleave(classes)
    search = Search(scorer, blurred(scorer.images), area)
    descent = Descent(BEGUN * start.flatten(0, 1))
    for _ in range(steps):
        moving = descent.moving()
        if not len(moving):
            break
        noisy = search.with_noise(generators, owners[moving])
        parts = torch.split(moving, max(1, scorer.batch_size // 2))
        slopes = [noisy.slopes(owners[part], part % classes, descent.masks[part]) for part in parts]
        descent.step(moving, torch.cat(slopes))
    return descent.masks.reshape(start.shape) + TAIL * start


@dataclass(frozen=True)
class Search:
    """What masks are worth, and which way they get better.

    Attributes:
        scorer: runs the masked forwards.
        behind: the images as they are seen where they are hidden.
        area: the price of a mask of the whole image.
    """

    scorer: Scorer
    behind: Float[Tensor, "b channels H W"]
    area: float

    def with_noise(self, generators: Sequence[torch.Generator], owners: Tensor) -> "Search":
        """The same search on images with noise, drawn for the owners only."""
        images = self.scorer.images
        noise = torch.zeros(images.shape, dtype=torch.float64)
        for owner in sorted(set(owners.tolist())):
            drawn = torch.randn(images.shape[1:], generator=generators[owner], dtype=torch.float64)
            noise[owner] = NOISE * drawn
        seen = images + noise.to(images)
        return replace(
            self,
            scorer=replace(self.scorer, images=seen),
            behind=self.behind + noise.to(self.behind),
        )

    def slopes(
        self, owners: Int[Tensor, " n"], places: Int[Tensor, " n"], masks: Float[Tensor, "n h w"]
    ) -> Float[Tensor, "n h w"]:
        """The gradient of each mask's loss; ``places`` are those of its class among the explained.

        Raises:
            UsageError: the network gives no gradient.
        """
        leaf = masks.detach().requires_grad_()
        pixels = self.scorer.upsampled(leaf)
        logits = self.scorer.masked_logits(
            owners.repeat(2), torch.cat([1 - pixels, pixels]), self.behind
        )
        if not logits.requires_grad:
            raise UsageError(
                "loupe descends by gradients and this network gives none for its input (it runs "
                "under no_grad, or is quantised): use a method that only runs it, such as "
                "occlusion or rise"
            )
        self.scorer.advance(6 * len(owners))
        classes = self.scorer.classes[owners, places].repeat(2)
        hidden, shown = self.scorer.log_likelihood(logits, classes).chunk(2)
        worth = loss(leaf, hidden, shown, self.area)
        (found,) = torch.autograd.grad(LIFT * worth.sum(), leaf)
        return found / LIFT


def loss(
    masks: Float[Tensor, "n h w"],
    hidden: Float[Tensor, " n"],
    shown: Float[Tensor, " n"],
    area: float,
) -> Float[Tensor, " n"]:
    """What is left of the class, less what is shown of it, and the mask's area.

    p(hidden) + 0.1 log p(hidden) - p(shown) + area mean(mask).

    Args:
        masks: 1 where the image is hidden from the one forward and shown to the other.
        hidden: the logarithm of the class's probability where the mask hides.
        shown: and where it shows.
        area: the price.
    """
    return hidden.exp() + HINT * hidden - shown.exp() + area * masks.mean((-2, -1))


class Descent:
    """Masks that go down their slopes by Adam, within [0, 1], each until it has settled."""

    FIRST, SECOND, LEAST = 0.9, 0.999, 1e-8  # moments, and what keeps from dividing by zero

    def __init__(self, masks: Float[Tensor, "n h w"]) -> None:
        """Begin at masks."""
        self.masks = masks.clone()
        self.mean, self.square = torch.zeros_like(masks), torch.zeros_like(masks)
        self.taken = torch.zeros(len(masks), device=masks.device, dtype=torch.long)
        self.still = torch.zeros_like(self.taken)

    def moving(self) -> Int[Tensor, " m"]:
        """Which masks have not settled."""
        return (self.still < PATIENCE).nonzero()[:, 0]

    def step(self, chosen: Int[Tensor, " m"], slopes: Float[Tensor, "m h w"]) -> None:
        """Take a step with some of the masks."""
        self.taken[chosen] += 1
        self.mean[chosen] = self.mean[chosen].lerp(slopes, 1 - self.FIRST)
        self.square[chosen] = self.square[chosen].lerp(slopes.square(), 1 - self.SECOND)
        taken = self.taken[chosen, None, None].to(slopes)
        mean = self.mean[chosen] / (1 - self.FIRST**taken)
        size = (self.square[chosen] / (1 - self.SECOND**taken)).sqrt() + self.LEAST
        before = self.masks[chosen]
        after = (before - RATE * mean / size).clamp(0, 1)
        moved = (after - before).abs().mean((-2, -1)) <= SETTLED * after.mean((-2, -1))
        self.masks[chosen] = after
        self.still[chosen] = torch.where(moved, self.still[chosen] + 1, 0)


def _on_grid(
    maps: Float[Tensor, "b k h w"], size: Sequence[int], cells: int
) -> Float[Tensor, "b k rows columns"]:
    """Maps on a grid of so many cells along the image's short side, and square ones."""
    short = min(size)
    rows, columns = (max(1, min(side, round(cells * side / short))) for side in size)
    return F.adaptive_avg_pool2d(resize_maps(maps, size), (rows, columns))
