"""Prediction and maps of a batch as one graph of plain operations, gradients included.

The tapped forward and the gradient of one score are traced first. This graph is then run for all
explained classes at once (``vmap`` over the choice of the class: what does not depend on it, the
forward above all, stays as it is), and traced again together with the method.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functionalize
from torch.fx import GraphModule

from mitate.explain.attention import plain_attention
from mitate.explain.blocks import Score
from mitate.explain.flags import unseen
from mitate.explain.fusion import fused
from mitate.explain.grid import Grid
from mitate.explain.head import Way
from mitate.explain.hooks import Place
from mitate.explain.lowering import PlainPooling, decompositions
from mitate.explain.methods import Method
from mitate.explain.tap import tapped_forward
from mitate.explain.targets import top_classes
from mitate.models.classifier import Classifier
from mitate.models.mode import as_written, evaluating
from mitate.sharing import Together
from mitate.tensors import at_least_single


@dataclass(frozen=True)
class Plan:
    """What is traced.

    Attributes:
        classifier: what is explained.
        method: one without ``untraced`` needs.
        options: of the method.
        places: the layers.
        grids: theirs.
        score: from logits (b, n) and classes (b, k) to what is differentiated (b, k).
        fusion: how maps of several layers become one.
        ways: from each layer to the logits, for methods that need the head.
    """

    classifier: Classifier
    method: Method
    options: Mapping[str, Any]
    places: Sequence[Place]
    grids: Sequence[Grid]
    score: Score
    fusion: str
    ways: Sequence[Way] = field(default=())

    @property
    def differentiates(self) -> bool:
        """Whether gradients are needed."""
        return self.method.shares_gradients

    def graph(self, *given: Tensor, top_k: int) -> GraphModule:
        """The graph for batches like this one.

        It takes the images, and their classes (b, k) where they are given here, and gives logits,
        classes and maps, and for methods of gradients whether a class's gradient reaches no layer.
        """
        network = self.classifier.network
        with warnings.catch_warnings(), as_written(), evaluating(network), _plain():
            warnings.simplefilter("ignore")  # vmap tells where it falls back to a loop
            rank = torch.eye(top_k, device=given[0].device)
            single = traced(self._single(top_k), rank[0], *given)

            def whole(*given: Tensor) -> tuple[Tensor, ...]:
                return self._maps(self._each(single, top_k, given), given[0])

            graph = traced(functionalize(whole, remove="mutations"), *given, mode="fake")
        graph.graph.eliminate_dead_code()
        graph.recompile()
        return graph

    def _single(self, top_k: int) -> Callable[..., tuple[Any, ...]]:
        """Logits, classes, activations, and one score's gradients: that which ``rank`` chooses."""
        read = self.classifier.read

        def run(rank: Tensor, images: Tensor, *named: Tensor) -> tuple[Any, ...]:
            with torch.enable_grad():
                forward = tapped_forward(
                    self.classifier.network,
                    images,
                    self.places,
                    read=read,
                    gradients=self.differentiates,
                )
                logits = forward.logits.detach()
                classes = named[0] if named else top_classes(logits, top_k)
                activations = [activation.detach() for activation in forward.activations]
                if not self.differentiates:
                    return logits, classes, *activations
                score = self.score(forward.logits, classes) @ rank.to(logits.dtype)
                slopes = forward.gradients(score[:, None])
                return logits, classes, *activations, tuple(slope[:, 0] for slope in slopes)

        return run

    def _each(self, single: GraphModule, top_k: int, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Logits, classes, activations, and all scores' gradients (b, k, ...), in one pass."""
        layers = len(self.places)
        ranks = torch.eye(top_k, device=given[0].device)
        if not self.differentiates:
            outcome: tuple[Tensor, ...] = single(ranks[0], *given)
            return outcome
        shared: Any = (None,) * (2 + layers)  # what no choice of a class changes
        sides = (0,) + (None,) * len(given)
        run = torch.vmap(single, in_dims=sides, out_dims=(*shared, 0))
        *same, slopes = run(ranks, *given)
        return *same, *(slope.movedim(0, 1) for slope in slopes)

    def _maps(self, known: Sequence[Tensor], images: Tensor) -> tuple[Tensor, ...]:
        logits, classes, *rest = known
        layers = len(self.places)
        spatial = [
            at_least_single(grid.spatial(tensor))
            for grid, tensor in zip([*self.grids, *self.grids], rest, strict=False)
        ]
        maps = []
        for index, grid in enumerate(self.grids):
            evidence: dict[str, Any] = {
                "activations": spatial[index],
                "classes": classes,
                "images": at_least_single(images),
                "grid": (grid.height, grid.width),
            }
            if self.differentiates:
                evidence["gradients"] = spatial[layers + index]
                evidence["mean_gradients"] = spatial[layers + index].mean((-2, -1))
            if self.ways:
                evidence["head"] = self.ways[index].head(spatial[index])
            given = [evidence[need] for need in self.method.needs]
            maps.append(grid.volume(self.method.function(*given, **self.options)))
        one = at_least_single(fused(maps, self.fusion)).detach()
        if not self.differentiates:
            return logits, classes, one
        blind = torch.stack([unseen(gradients) for gradients in spatial[layers:]]).all(0)
        return logits, classes, one, blind


def forward_graph(classifier: Classifier, images: Tensor) -> GraphModule:
    """The network's forward as a graph: from images like these to a tuple of their logits."""

    def forward(images: Tensor) -> tuple[Tensor]:
        return (classifier.read(classifier.network(images)),)

    with as_written(), evaluating(classifier.network), _plain():
        return traced(functionalize(forward, remove="mutations"), images)


def traced(
    function: Callable[..., Any], *given: Tensor, mode: Literal["real", "fake"] = "real"
) -> GraphModule:
    """Trace a function to a graph of core ATen operations.

    What the function meets of the network's weights is referred to, not copied. Numbers are
    computed on the way where ``mode`` is ``real``, which a network needs that keeps some of them,
    and not where it is ``fake``, which is quicker.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    make = make_fx(function, decompositions(), mode, _allow_non_fake_inputs=mode == "fake")
    with torch.no_grad():
        return make(*given)


_plain_norms = Together(lambda: torch.backends.cudnn.flags(enabled=False))


@contextmanager
def _plain() -> Iterator[None]:
    """Attention, pooling and norms by operations that have plain derivatives."""
    with plain_attention(), PlainPooling(), _plain_norms():
        yield
