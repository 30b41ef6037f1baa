"""Whether the classifier uses the true region: a question to it, with no map.

Where the class falls when the region is hidden, a map that does not show it is wrong; where it does
not, the classifier decides by something else, and no true map can lie on the region. What hiding
does by itself is told by regions of the same shape elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mitate.auditing.localisation import region, widened
from mitate.auditing.sample import Advance, Sample
from mitate.auditing.steps import IMPUTED
from mitate.errors import UsageError
from mitate.explain.scorer import Scorer
from mitate.models.classifier import Classifier
from mitate.models.mode import batch_for
from mitate.tensors import exact

LEAST_WITHIN = 0.95  # of a region elsewhere, the share that lies where it should
MOST_SHARED = 0.05  # and the share that may lie on the true region
Move = tuple[int, int, int, int]  # whether it is flipped down and across, and by what it is rolled


@dataclass(frozen=True)
class Reliance:
    """The class's probability with regions hidden.

    Attributes:
        own: of the unaltered images.
        hidden: without the true region; NaN where there is none.
        inside: without regions of its shape elsewhere in the object; NaN where there is no place.
        outside: without regions of its shape outside the object.
        flipped: whether another class is the most probable without the true region, 1 or 0; NaN
            where there is none, or where another one was before.
        flipped_inside: the same for regions elsewhere in the object.
        flipped_outside: the same for regions outside of it.
        forwards: an image.
    """

    own: Float[Tensor, " b"]
    hidden: Float[Tensor, " b"]
    inside: Float[Tensor, "b places"]
    outside: Float[Tensor, "b places"]
    flipped: Float[Tensor, " b"]
    flipped_inside: Float[Tensor, "b places"]
    flipped_outside: Float[Tensor, "b places"]
    forwards: float

    @property
    def fall(self) -> Float[Tensor, " b"]:
        """By how much the probability falls without the true region."""
        return self.own - self.hidden

    @property
    def fall_inside(self) -> Float[Tensor, " b"]:
        """The mean fall without a region of its shape elsewhere in the object; NaN without one."""
        return self.own - self.inside.nanmean(1)

    @property
    def fall_outside(self) -> Float[Tensor, " b"]:
        """The mean fall without a region of its shape outside the object; NaN without one."""
        return self.own - self.outside.nanmean(1)


def reliance(
    classifier: Classifier,
    inputs: Float[Tensor, "b channels H W"],
    classes: Int[Tensor, " b"],
    masks: Float[Tensor, "b H W"],
    *,
    objects: Float[Tensor, "b H W"] | None = None,
    filling: str = IMPUTED,
    margin: float = 0.01,
    places: int = 8,
    seed: int = 0,
    batch_size: int | None = None,
    advance: Advance = lambda forwards: None,
) -> Reliance:
    """Hide the true region, and regions of the same shape elsewhere, and see how the class falls.

    A region elsewhere is the true one mirrored or not and rolled around the image's borders to a
    random place, at least 95 % of it where it should be and at most 5 % of it on the true one.

    Args:
        classifier: which is asked.
        inputs: the preprocessed images.
        classes: whose probability is told.
        masks: the share of each pixel that belongs to the true region.
        objects: the share that belongs to the object that it is on, such as a leaf; without it all
            that is not the region is outside.
        filling: what is seen in place of a region: ``imputed`` from what is around it, with noise,
            or ``blur``, ``mean``, ``noise`` or ``black``.
        margin: by how much each region is widened, as a share of the longer side: what is beside a
            lesion tells of it.
        places: how many regions elsewhere, inside and outside; each costs a forward.
        seed: of the places and the noise.
        batch_size: altered images in one forward; None as ``Explainer`` has it.
        advance: told of forwards as they are done: an image 2 and twice as many as ``places``, or
            fewer.

    Raises:
        UsageError: masks of another size than the inputs, or no place.
    """
    _check(inputs, masks, objects, places)
    size = batch_for(inputs, batch_size)
    sample = Sample(classifier, inputs.detach(), classes, None, seed, size, advance)
    scorer = sample.scorer
    every = torch.arange(scorer.whole.shape[1], device=inputs.device).expand(len(inputs), -1)
    true = widened(region(masks.to(inputs.device)), margin * max(inputs.shape[-2:]))
    moves = [
        _moves(mask, None if objects is None else region(within[None])[0], places, generator)
        for mask, within, generator in zip(
            true.cpu(),
            masks.cpu() if objects is None else objects.cpu(),
            sample.generators,
            strict=True,
        )
    ]
    return _told(sample, every, true, moves, places, filling)


def _told(
    sample: Sample,
    every: Int[Tensor, "b classes"],
    true: Bool[Tensor, "b H W"],
    moves: Sequence[Sequence[Move | None]],
    places: int,
    filling: str,
) -> Reliance:
    """Score every region that there is."""
    whole = sample.scorer

    def make(owners: Int[Tensor, " n"], numbers: Int[Tensor, " n"]) -> Tensor:
        pairs = zip(owners.tolist(), numbers.tolist(), strict=True)
        missing = torch.stack([_moved(true[owner], moves[owner][place]) for owner, place in pairs])
        return sample.filled(owners, missing, filling)

    wanted = torch.tensor([[move is not None for move in row] for row in moves])
    wanted = wanted.to(true.device)
    scorer = Scorer(
        whole.network, whole.read, whole.images, every, whole.whole, whole.batch_size,
        whole.advance, whole.task,
    )  # fmt: skip
    with torch.inference_mode(False), torch.no_grad():
        found = scorer.altered(wanted, make)
    likely = found.gather(2, sample.classes[:, None, None].expand(-1, found.shape[1], 1))[..., 0]
    was = whole.whole.argmax(1) == sample.classes
    flips = (found.argmax(2) != sample.classes[:, None]).to(likely.dtype)
    likely = torch.where(wanted, likely, torch.nan)
    flips = torch.where(wanted & was[:, None], flips, torch.nan)
    sizes = [1, places, places]
    hidden, inside, outside = torch.split(likely, sizes, 1)
    one, two, three = torch.split(flips, sizes, 1)
    return Reliance(
        sample.own, hidden[:, 0], inside, outside, one[:, 0], two, three,
        sample.spent / len(sample.images),
    )  # fmt: skip


def _moves(
    true: Bool[Tensor, "H W"],
    within: Bool[Tensor, "H W"] | None,
    places: int,
    generator: torch.Generator,
) -> list[Move | None]:
    """The region itself, then those in the object and those outside; None where there is none."""
    nowhere: list[Move | None] = [None] * places
    if not true.any():
        return [None, *nowhere, *nowhere]
    inside = nowhere if within is None else _places(true, within, places, generator)
    outside = _places(true, ~true if within is None else ~(within | true), places, generator)
    return [(0, 0, 0, 0), *inside, *outside]


def _places(
    true: Bool[Tensor, "H W"],
    allowed: Bool[Tensor, "H W"],
    places: int,
    generator: torch.Generator,
) -> list[Move | None]:
    """Random moves of a region into what is allowed, no two alike; None where there are no more."""
    size, fitting = true.sum(), []
    for down in (0, 1):
        for across in (0, 1):
            moved = _moved(true, (down, across, 0, 0))
            fits = _shared(moved, allowed) >= LEAST_WITHIN * size - 0.5
            fitting.append(fits & (_shared(moved, true) <= MOST_SHARED * size + 0.5))
    options = torch.stack(fitting).reshape(2, 2, *true.shape).nonzero()
    chosen = options[torch.randperm(len(options), generator=generator)[:places]].tolist()
    found: list[Move | None] = [(move[0], move[1], move[2], move[3]) for move in chosen]
    return found + [None] * (places - len(found))


def _shared(moved: Bool[Tensor, "H W"], other: Bool[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """How many pixels a region shares with another after each roll: their correlation."""
    one, two = (torch.fft.rfft2(exact(plane)) for plane in (moved, other))
    shared: Tensor = torch.fft.irfft2(one.conj() * two, s=moved.shape)
    return shared


def _moved(region: Bool[Tensor, "H W"], move: Move | None) -> Bool[Tensor, "H W"]:
    assert move is not None
    down, across, *by = move
    axes = [axis for axis, flipped in ((0, down), (1, across)) if flipped]
    return region.flip(axes).roll(by, (0, 1))


def _check(inputs: Tensor, masks: Tensor, objects: Tensor | None, places: int) -> None:
    for name, given in (("masks", masks), ("objects", objects)):
        if given is not None and given.shape != (len(inputs), *inputs.shape[-2:]):
            raise UsageError(
                f"{name} of {tuple(given.shape)} for inputs of {tuple(inputs.shape)}: bring them "
                "to the size of the inputs"
            )
    if places < 1:
        raise UsageError(f"places is {places}: use 1 or more")
