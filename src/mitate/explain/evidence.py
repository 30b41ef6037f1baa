"""What can be known of a batch at a layer: everything that a method may ask for, by name.

Each is found when a method first asks for it. ``EVIDENCE`` in methods/table.py says what each is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import LayerError
from mitate.explain.attention import Attention, readers
from mitate.explain.grid import Grid
from mitate.explain.head import Head, find_head
from mitate.explain.scorer import Advance, Scorer
from mitate.explain.suffix import Suffix, Traced
from mitate.explain.tap import Place, TappedForward, tapped_forward
from mitate.models.classifier import Classifier
from mitate.tensors import at_least_single, generators

Score = Callable[[Tensor, Tensor], Tensor]
DIFFERENTIATED = {"gradients", "curvature", "attention"}


def plain_score(logits: Float[Tensor, "b n"], classes: Int[Tensor, "b k"]) -> Tensor:
    """The logits of the explained classes (b, k)."""
    return logits.gather(1, classes)


@dataclass
class Evidence:
    """One batch, one layer.

    Attributes:
        classifier: what is explained.
        inputs: the preprocessed images.
        classes: the explained classes.
        forward: the tapped forward of the images.
        index: which of the forward's places.
        place: that layer.
        grid: where its spatial axes are.
        score: from logits (b, n) and classes (b, k) to what is differentiated (b, k).
        batch_size: masked forwards in one batch.
        seed: of random methods.
        traces: graphs of the network from a layer on that were traced before.
        advance: told how many forwards were run.
    """

    classifier: Classifier
    inputs: Float[Tensor, "b channels *pixels"]
    classes: Int[Tensor, "b k"]
    forward: TappedForward
    index: int
    place: Place
    grid: Grid
    score: Score
    batch_size: int
    seed: int
    traces: dict[Any, Traced | None] = field(default_factory=dict)
    advance: Advance = field(default=lambda forwards: None)

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
        return self._spatial(self.forward.gradients(self._scores)[self.index])

    @cached_property
    def curvature(self) -> Float[Tensor, "b k c h w"]:
        """Each score's Hessian at the layer, times the activations."""
        return self._spatial(self.forward.curvature(self._scores, self.index))

    @property
    def noisy(self) -> Callable[[int, float], Iterator[tuple[Tensor, Tensor]]]:
        """From samples and spread to activations and gradients of noisy images."""
        return self._noisy

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
            LayerError: no block attends from each of the layer's cells to each.
        """
        prefix, cells = self.grid.prefix, self.grid.cells
        shape = (len(self.inputs), prefix + cells, prefix + cells)
        every = self.forward.probabilities
        chosen = [i for i, kept in enumerate(every) if (len(kept), *kept.shape[-2:]) == shape]
        if not chosen:
            there = f"it attends over {_told(every)} tokens" if every else "it has no attention"
            raise LayerError(
                f"no block of this network attends from each of the {shape[1]} tokens of "
                f"{self.place.name!r} to each ({there}; windows are not read): name a layer of the "
                "transformer's grid, or use a method of gradients, such as layercam"
            )
        last = self.forward.attention_gradients(self._scores[:, :1])[chosen[-1]][:, 0]

        def slopes() -> tuple[Tensor, ...]:
            given = self.forward.attention_gradients(self._scores)
            return tuple(at_least_single(given[i]) for i in chosen)

        kept = tuple(at_least_single(every[i].detach()) for i in chosen)
        return Attention(kept, slopes, readers(last, prefix), prefix, self.size)

    @property
    def slopes(self) -> Callable[[Tensor], Tensor]:
        """From images to gradients of the pixels."""
        return self._slopes

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

    @cached_property
    def _scores(self) -> Float[Tensor, "b k"]:
        return self.score(self.forward.logits, self.classes)

    def _spatial(self, tensor: Tensor) -> Tensor:
        return at_least_single(self.grid.spatial(tensor))

    def _noisy(self, samples: int, spread: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Activations and gradients of images with Gaussian noise, ``spread`` of their range."""
        low, high = self.inputs.flatten(1).amin(1), self.inputs.flatten(1).amax(1)
        deviation = (spread * (high - low)).reshape(-1, *[1] * (self.inputs.ndim - 1))
        for _ in range(samples):
            noise = [
                torch.randn(image.shape, generator=generator, dtype=torch.float64)
                for image, generator in zip(self.inputs, self.generators, strict=True)
            ]
            images = self.inputs + deviation * torch.stack(noise).to(self.inputs)
            network, read = self.classifier.network, self.classifier.read
            forward = tapped_forward(network, images, [self.place], read=read, gradients=True)
            scores = self.score(forward.logits, self.classes)
            yield (
                self._spatial(forward.activations[0].detach()),
                self._spatial(forward.gradients(scores)[0]),
            )
            self.advance(len(images) * (1 + 2 * self.classes.shape[1]))

    def _slopes(self, images: Tensor) -> Float[Tensor, "b k channels H W"]:
        """Gradients of the scores with respect to the pixels of images like the inputs."""
        network, read = self.classifier.network, self.classifier.read
        forward = tapped_forward(network, images, [], read=read, gradients=True, pixels=True)
        slopes = forward.gradients(self.score(forward.logits, self.classes))[0]
        self.advance(len(images) * (1 + 2 * self.classes.shape[1]))
        return at_least_single(slopes)


def _told(probabilities: Sequence[Tensor]) -> str:
    """How many tokens blocks attend over, each number once."""
    return ", ".join(str(n) for n in dict.fromkeys(kept.shape[-1] for kept in probabilities))
