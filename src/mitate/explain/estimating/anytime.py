"""Score-CAM from a part of its masked forwards, with an estimate of the error of the map.

Channels with like masks have like scores. A few channels are scored truly; kriging over the masks'
shapes (kriging.py) foretells the others, with the uncertainty of each; the channels whose
uncertainty weighs most on the map are scored next, until the map's estimated error is small enough
or nothing is left to foretell.

Each round tests the last one: the new scores were foretold before they were known. Where they were
further off than the guess allowed for, it is trusted less.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, where

from mitate.explain.estimating.estimate import Estimate
from mitate.explain.estimating.kriging import Guess, guessed
from mitate.tensors import to_unit_range

FIRST = 1 / 32  # of the live channels, drawn at random
GROWTH = 1 / 3  # of the channels scored so far are scored in the next round
FEWEST = 16  # channels in a round
LEAST_CHANCE = 0.05  # of a channel to be drawn next, relative to the mean
CAUTION = 1.25  # times the deviation: the guess has chosen its own channels
LEVEL = 0.95  # of the errors of the drawn maps lie under the estimate
DRAWS = 200
NODES = 64  # values of a score that its mean and deviation are taken over
FAINT = 1e-4  # of the largest score, below which scores are told apart no further
SURE = 1e-7  # short of certainty, likewise

Score = Callable[[Bool[Tensor, "b c"]], Float[Tensor, "b c k"]]


@dataclass(frozen=True)
class Link:
    """Between a score and a number that errs by about as much everywhere."""

    to: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


def _raised(scores: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    return scores.maximum(FAINT * scores.amax(0)).clamp_min(torch.finfo(scores.dtype).tiny)


def _log_odds(scores: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    likely = _raised(scores)
    return likely.log() - (1 - likely).clamp_min(SURE).log()


PROBABILITY = Link(_log_odds, torch.sigmoid)
RATIO = Link(lambda scores: _raised(scores).log(), torch.exp)
VALUE = Link(torch.clone, torch.clone)


def estimated_weights(
    activations: Float[Tensor, "b c h w"],
    live: Bool[Tensor, "b c"],
    score: Score,
    classes: int,
    link: Link,
    generators: Sequence[torch.Generator],
    *,
    tolerance: float,
    signed: bool,
) -> tuple[Float[Tensor, "b k c"], Estimate]:
    """Weight channels by their scores, some of them guessed.

    Args:
        activations: what the layer gave.
        live: the channels that have a score.
        score: gives the scores of the channels that are asked for, 0 elsewhere.
        classes: how many scores a channel has.
        link: between scores and what is guessed.
        generators: of each image's draws.
        tolerance: the estimated error at which an image is done.
        signed: whether the map keeps its negative side.
    """
    courses = [
        Course(activation.cpu(), kept.cpu(), classes, link, generator, signed)
        for activation, kept, generator in zip(activations, live, generators, strict=True)
    ]
    wanted = torch.stack([course.first() for course in courses])
    while wanted.any():
        scores = score(wanted.to(live.device)).cpu()
        following = [
            course.told(scores[i], wanted[i], tolerance) if wanted[i].any() else wanted[i]
            for i, course in enumerate(courses)
        ]
        wanted = torch.stack(following)
    weights = torch.stack([course.weights() for course in courses]).to(activations)
    error = torch.stack([course.error for course in courses]).to(activations)
    scored = torch.stack([course.known.sum() for course in courses]).to(live.device)
    return weights.mT, Estimate(error, scored, live.sum(1))


class Course:
    """One image on its way from few scored channels to enough of them.

    Its tensors are of the m live channels, in double precision, on the CPU: that is where random
    numbers are drawn, and what is done with them is small beside a forward.

    Attributes:
        known: which channels were scored truly (m,).
        scores: theirs, and what is expected of the others (m, k).
        error: of each map, as it is estimated (k,); 1 at first.
    """

    def __init__(
        self,
        activation: Float[Tensor, "c h w"],
        live: Bool[Tensor, " c"],
        classes: int,
        link: Link,
        generator: torch.Generator,
        signed: bool,
    ) -> None:
        """Start with nothing known.

        Args:
            activation: of one image.
            live: its channels that have a score.
            classes: how many scores each has.
            link: between scores and what is guessed.
            generator: of the draws.
            signed: whether the map keeps its negative side.
        """
        self.live, self.link, self.generator, self.signed = live, link, generator, signed
        channels = activation[live].double()
        self.planes, self.masks = channels.flatten(1), to_unit_range(channels).flatten(1)
        self.features = torch.stack([self.masks.mean(1), self.masks.square().mean(1).sqrt()], 1)
        self.size = (self.planes - self.planes.mean(1, keepdim=True)).norm(dim=1, keepdim=True)
        self.known = torch.zeros_like(live[live])
        self.scores = channels.new_zeros(len(channels), classes)
        self.deviation = torch.zeros_like(self.scores)
        self.error = channels.new_full((classes,), float(len(channels) > 0))
        self.missed, self.allowed = self.error * 0, self.error * 0

    def first(self) -> Bool[Tensor, " c"]:
        """The channels to be scored first: some at random, or all of few."""
        number = len(self.known)
        drawn = max(FEWEST, math.ceil(FIRST * number))
        some = torch.randperm(number, generator=self.generator)[:drawn]
        chosen = torch.full_like(self.known, number <= 2 * FEWEST)
        chosen[some] = True
        return self._of_all(chosen)

    def told(
        self, scores: Float[Tensor, "c k"], asked: Bool[Tensor, " c"], tolerance: float
    ) -> Bool[Tensor, " c"]:
        """Learn the scores that were asked for; give the channels to be scored next, if any."""
        new, truth = asked[self.live], scores[self.live].double()
        self._tested(truth[new], new)
        self.scores[new], self.deviation[new] = truth[new], 0
        self.known = self.known | new
        if self.known.all():
            self.error = torch.zeros_like(self.error)
            return torch.zeros_like(asked)
        if not (truth[new].isfinite().all() and self.masks.isfinite().all()):
            return self._of_all(~self.known)
        guess = guessed(
            self.masks, self.features, self.known, self.link.to(self.scores[self.known])
        )
        self._expected(guess)
        if self.allowed.any():  # the guess before this one was tested
            self.error = self._errors(guess.root)
        if (self.error <= tolerance).all():
            return torch.zeros_like(asked)
        return self._of_all(self._next(tolerance))

    def weights(self) -> Float[Tensor, "c k"]:
        """Of all channels, dead ones too."""
        every = self.scores.new_zeros(len(self.live), self.scores.shape[1])
        every[self.live] = self.scores
        return every

    def _tested(self, truth: Float[Tensor, "n k"], new: Bool[Tensor, " m"]) -> None:
        """How far off the guess at these channels was, and what it allowed for; old tests fade."""
        weight = self.size[new].square()
        missed = (truth - self.scores[new]).square() * weight
        self.allowed = self.allowed / 2 + (self.deviation[new].square() * weight).sum(0)
        self.missed = self.missed / 2 + where(self.allowed > 0, missed.sum(0), 0)

    def _expected(self, guess: Guess) -> None:
        """Mean and deviation of the unknown scores, from equally likely values of each."""
        steps = (torch.arange(NODES) + 0.5) / NODES
        nodes = torch.special.ndtri(steps.to(guess.mean.dtype))
        values = self.link.back(guess.mean[..., None] + guess.deviation[..., None] * nodes)
        self.scores[~self.known] = values.mean(-1)
        self.deviation[~self.known] = values.std(-1)

    def _errors(self, root: Float[Tensor, "u u"]) -> Float[Tensor, " k"]:
        """What the errors of maps that are drawn from the guess hardly exceed."""
        worse = where(self.allowed > 0, self.missed / self.allowed, 1).clamp_min(1).sqrt()
        deviation = CAUTION * worse * self.deviation[~self.known]
        normal = torch.randn(len(root), DRAWS, generator=self.generator, dtype=torch.float64)
        drawn = (root @ normal).mT
        maps = self.scores.mT @ self.planes
        off = torch.stack([(drawn * each) @ self.planes[~self.known] for each in deviation.T])
        likely = maps[:, None] + off
        pair = (likely, maps[:, None]) if self.signed else (likely.relu(), maps[:, None].relu())
        return (1 - correlation(*pair)).quantile(LEVEL, dim=1)

    def _next(self, tolerance: float) -> Bool[Tensor, " m"]:
        """Draw unknown channels by how uncertain they leave the maps that are not done."""
        blurs = self.deviation * self.size
        shares = blurs / blurs.norm(dim=0).clamp_min(torch.finfo(blurs.dtype).tiny)
        chance = shares[:, ~(self.error <= tolerance)].amax(1)
        chance = chance.maximum(LEAST_CHANCE * chance[~self.known].mean())
        known = int(self.known.sum())
        number = min(len(self.known) - known, max(FEWEST, math.ceil(GROWTH * known)))
        luck = torch.rand(len(self.known), generator=self.generator, dtype=torch.float64)
        order = luck.log() / chance.clamp_min(torch.finfo(chance.dtype).tiny)
        picked = order.masked_fill(self.known, -torch.inf).topk(number).indices
        return torch.zeros_like(self.known).scatter(0, picked, True)

    def _of_all(self, chosen: Bool[Tensor, " m"]) -> Bool[Tensor, " c"]:
        """Choose among all channels."""
        every = torch.zeros_like(self.live)
        every[self.live] = chosen
        return every


def correlation(
    maps: Float[Tensor, "*n cells"], others: Float[Tensor, "*m cells"]
) -> Float[Tensor, "*n"]:
    """Pearson's, over the cells; 0 with a map that is constant."""
    ours, theirs = (each - each.mean(-1, keepdim=True) for each in (maps, others))
    size = ours.norm(dim=-1) * theirs.norm(dim=-1)
    return where(size > 0, (ours * theirs).sum(-1) / where(size > 0, size, 1), 0)
