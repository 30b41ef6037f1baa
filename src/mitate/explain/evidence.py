"""What can be known of a batch at a layer: everything that a method may ask for, by name.

Each is found when a method first asks for it. ``EVIDENCE`` in methods/kinds.py says what each is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from mitate.errors import LayerError
from mitate.explain.attention import Attention
from mitate.explain.biases import BiasTap, FullGradient, full_gradient, of_images
from mitate.explain.blocks import Blocks, Score
from mitate.explain.flags import unseen
from mitate.explain.grid import Grid
from mitate.explain.guided import Guidance
from mitate.explain.head import Head, find_head
from mitate.explain.hooks import Place
from mitate.explain.pooled import behind
from mitate.explain.scorer import Advance, Scorer
from mitate.explain.suffix import Suffix, Traced
from mitate.explain.tap import TappedForward, tapped_forward
from mitate.explain.tokens import possible_prefixes
from mitate.models.classifier import Classifier
from mitate.tensors import at_least_single, generators, with_noise


def plain_score(logits: Float[Tensor, "b n"], classes: Int[Tensor, "b k"]) -> Tensor:
    """The logits of the explained classes (b, k)."""
    return logits.gather(1, classes)


@dataclass
class Derivatives:
    """The scores of one batch and their gradients, found once for all the layers of a forward.

    Attributes:
        forward: the tapped forward of the images.
        classes: the explained classes.
        score: from logits (b, n) and classes (b, k) to what is differentiated (b, k).
    """

    forward: TappedForward
    classes: Int[Tensor, "b k"]
    score: Score

    @cached_property
    def scores(self) -> Float[Tensor, "b k"]:
        """What is differentiated."""
        return self.score(self.forward.logits, self.classes)

    @cached_property
    def gradients(self) -> tuple[Tensor, ...]:
        """Of every score, at every place: (b, k, ...) in its layout, by one backward a score."""
        return self.forward.gradients(self.scores)


@dataclass
class Evidence:
    """One batch, one layer; or several layers at once for a method that asks for ``pyramid``.

    Attributes:
        classifier: what is explained.
        inputs: the preprocessed images.
        derivatives: the tapped forward, the scores, and their gradients at all its places.
        looked_at: all these places, each with its grid.
        index: which of them.
        batch_size: masked forwards in one batch.
        seed: of random methods.
        traces: graphs of the network from a layer on that were traced before.
        advance: told how many forwards were run.
        quick: as ``Scorer`` has it.
    """

    classifier: Classifier
    inputs: Float[Tensor, "b channels *pixels"]
    derivatives: Derivatives
    looked_at: Sequence[tuple[Place, Grid]]
    index: int
    batch_size: int
    seed: int
    traces: dict[Any, Traced | None] = field(default_factory=dict)
    advance: Advance = field(default=lambda forwards: None)
    quick: Callable[[Tensor], Tensor] | None = None

    @property
    def forward(self) -> TappedForward:
        """The tapped forward of the images."""
        return self.derivatives.forward

    @property
    def classes(self) -> Int[Tensor, "b k"]:
        """The explained classes."""
        return self.derivatives.classes

    @property
    def score(self) -> Score:
        """From logits (b, n) and classes (b, k) to what is differentiated (b, k)."""
        return self.derivatives.score

    @property
    def place(self) -> Place:
        """The layer."""
        return self.looked_at[self.index][0]

    @property
    def grid(self) -> Grid:
        """Where the layer's spatial axes are."""
        return self.looked_at[self.index][1]

    def given(self, needs: Sequence[str]) -> list[Any]:
        """What a method needs, in its order."""
        return [getattr(self, "size" if need == "grid" else need) for need in needs]

    @cached_property
    def activations(self) -> Float[Tensor, "b c h w"]:
        """What the layer gave."""
        given = self.forward.activations[self.index]
        return self._spatial(given if self.forward.recorded else given.detach())

    @cached_property
    def gradients(self) -> Float[Tensor, "b k c h w"]:
        """Of every target's score, at the layer."""
        return self._spatial(self.derivatives.gradients[self.index])

    @cached_property
    def mean_gradients(self) -> Float[Tensor, "b k c"]:
        """Their mean over the layer's cells, without them where it can be told so."""
        (kept, *others), scores = self.forward.activations, self.derivatives.scores
        found = None if others else behind(scores, kept, self.grid)
        if found is None or self.forward.recorded:
            return self.gradients.mean((-2, -1))
        slopes = (self.forward.slopes_at(score, [found.edge]) for score in scores.unbind(1))
        return torch.stack([found.mean(slope) for (slope,) in slopes], dim=1)

    @cached_property
    def pyramid(self) -> list[tuple[Tensor, Tensor]]:
        """Activations and gradients of all the forward's places, by one backward a target."""
        kept, slopes = self.forward.activations, self.derivatives.gradients
        spatial = [
            (
                at_least_single(grid.spatial(activation.detach())),
                at_least_single(grid.spatial(slope)),
            )
            for (_, grid), activation, slope in zip(self.looked_at, kept, slopes, strict=True)
        ]
        return sorted(spatial, key=lambda layer: -layer[0][0, 0].numel())

    @cached_property
    def curvature(self) -> Float[Tensor, "b k c h w"]:
        """Each score's Hessian at the layer, times the activations."""
        return self._spatial(self.forward.curvature(self.derivatives.scores, self.index))

    @cached_property
    def head(self) -> Head:
        """The linear classifier behind pooling."""
        logits = self.forward.logits.detach()
        return find_head(self.classifier, self.inputs, self.place, self.activations, logits)

    @cached_property
    def scorer(self) -> Scorer:
        """Runs masked forwards."""
        network, read = self.classifier.network, self.classifier.read
        return Scorer(
            network,
            read,
            self.inputs,
            self.classes,
            self.forward.logits.detach(),
            self.batch_size,
            self.advance,
            self.classifier.task,
            self.quick,
        )

    @cached_property
    def suffix(self) -> Suffix:
        """Runs forwards from the layer on."""
        return Suffix(
            self.classifier,
            replace(self.place, call=self.forward.calls[self.index]),
            self.grid,
            self.inputs,
            self.forward.activations[self.index].detach(),
            self.forward.logits.detach(),
            self.classes,
            self.batch_size,
            self.advance,
            self.traces,
        )

    @cached_property
    def attention(self) -> Attention:
        """Attention over the layer's tokens, in every block that has it.

        Raises:
            LayerError: no block attends over the layer's cells, or its windows cannot be told.
        """
        blocks = Blocks(
            self.classifier,
            self.inputs,
            self.classes,
            self.score,
            self.forward,
            self.grid,
            self.place.name,
        )
        return blocks.attention()

    @cached_property
    def guided(self) -> Float[Tensor, "b k channels H W"]:
        """Gradients of the scores at the pixels, that pass ReLUs where they are positive.

        Raises:
            LayerError: a network without ReLUs, whose guided gradients would be the plain ones.
        """
        guidance = Guidance()
        found = self.slopes(self.inputs, guidance)
        if not guidance.rectifiers:
            raise LayerError(
                "guided backpropagation is of ReLUs, and none is run by this network: its guided "
                "gradients are the plain ones. Use method='inputxgradient' or 'hirescam'"
            )
        return found

    @property
    def images(self) -> Float[Tensor, "b channels H W"]:
        """The preprocessed images, in single precision at least."""
        return at_least_single(self.inputs)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the layer's grid."""
        return self.grid.height, self.grid.width

    @cached_property
    def generators(self) -> list[torch.Generator]:
        """A random generator an image."""
        return generators(self.seed, list(self.inputs))

    def blind(self, *, pixels: bool) -> Bool[Tensor, "b k"]:
        """Where no gradient of a score arrives: at the layer, or at the pixels."""
        network, read = self.classifier.network, self.classifier.read
        tapped = [self.place] if self.forward.activations and not pixels else []
        forward = tapped_forward(
            network, self.inputs, tapped, read=read, gradients=True, pixels=not tapped
        )
        return unseen(forward.gradients(self.score(forward.logits, self.classes))[0])

    def noisy(self, samples: int, spread: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Activations and gradients of images with Gaussian noise, ``spread`` of their range."""
        for _ in range(samples):
            images = with_noise(self.inputs, spread, self.generators)
            network, read = self.classifier.network, self.classifier.read
            forward = tapped_forward(network, images, [self.place], read=read, gradients=True)
            scores = self.score(forward.logits, self.classes)
            yield (
                self._spatial(forward.activations[0].detach()),
                self._spatial(forward.gradients(scores)[0]),
            )
            self.advance(len(images) * (1 + 2 * self.classes.shape[1]))

    def slopes(
        self, images: Tensor, watch: AbstractContextManager[Any] | None = None
    ) -> Float[Tensor, "b k channels H W"]:
        """Gradients of the scores with respect to the pixels of images like the inputs."""
        forward = self._from_pixels(images, watch)
        slopes = forward.gradients(self.score(forward.logits, self.classes))[0]
        self.advance(len(images) * (1 + 2 * self.classes.shape[1]))
        return at_least_single(slopes)

    def fullgradients(self) -> Iterator[FullGradient]:
        """Each class's score taken apart, a class at a time."""
        taken = BiasTap()
        forward = self._from_pixels(self.inputs, taken)
        self.advance(2 * len(self.inputs))  # the forward, and what its operations add
        scores = self.score(forward.logits, self.classes)
        prefixes = possible_prefixes(self.classifier.network)
        biases = of_images(taken.kept, forward.activations[0])
        places = (get_gradient_edge(forward.activations[0]), *(bias.place for bias in biases))
        for k in range(scores.shape[1]):
            slope, *slopes = forward.slopes_at(scores[:, k], places)
            self.advance(2 * len(self.inputs))
            own = torch.zeros_like(self.images) if slope is None else at_least_single(slope)
            yield full_gradient(self.images, own, biases, slopes, prefixes)

    def _spatial(self, tensor: Tensor) -> Tensor:
        return at_least_single(self.grid.spatial(tensor))

    def _from_pixels(
        self, images: Tensor, watch: AbstractContextManager[Any] | None
    ) -> TappedForward:
        network, read, given = self.classifier.network, self.classifier.read, images.to(self.inputs)
        return tapped_forward(
            network, given, [], read=read, gradients=True, pixels=True, watch=watch
        )
