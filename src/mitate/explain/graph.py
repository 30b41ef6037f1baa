"""Explanations by one static graph: prediction and maps without hooks or autograd at run time.

The graph is of plain operations (core ATen) on the network's own weights, for batches of one size.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import MitateWarning
from mitate.explain.evidence import plain_score
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation
from mitate.explain.flags import find_flags
from mitate.explain.head import find_way
from mitate.explain.names import LayerSpec
from mitate.explain.outputs import Target
from mitate.explain.static import Run, StaticGraph, StaticGraphs, checked_backend, near
from mitate.explain.tap import tapped_forward
from mitate.explain.targets import checked_top_k
from mitate.explain.tracing import Plan, forward_graph
from mitate.models.classifier import Classifier
from mitate.models.mode import USUAL_BATCH
from mitate.progress import Advance
from mitate.tensors import at_least_single

# Of the norm of logits and of maps, between a graph's and the explainer's; and in half precision so
# many of its roundings. A sum over channels may cancel; a graph that is wrong is far off.
LOGITS_TOLERANCE, MAPS_TOLERANCE, ROUNDINGS = 1e-3, 0.1, 32


def compile(
    model: Any,
    method: str = "gradcam",
    layer: LayerSpec | Sequence[LayerSpec] = "auto",
    top_k: int | None = None,
    *,
    backend: str = "eager",
    **arguments: Any,
) -> "Compiled":
    """Make an explainer that runs as one static graph, prediction and all maps in one go.

    It is used as an ``Explainer`` is and gives the same. The first batch of a size takes longer:
    the graph is traced then, and what it gives is compared with the explainer's own result.

    Args:
        model: a Classifier, a reference to one, a fastai Learner or a plain module. Its weights are
            not copied: where they change, in place or to others, the graph follows. Where its
            modules do, compile again.
        method: a name from ``mitate methods``; those of many forwards, of attention, and of random
            numbers are run by the explainer instead, as a warning says. With ``inductor`` methods
            that mask the image run each masked forward as a compiled graph.
        layer: as an ``Explainer`` takes it; several too.
        top_k: how many of the most probable classes, where a call names none.
        backend: ``eager`` runs the graph by PyTorch's own kernels; ``inductor`` compiles it
            (``torch.compile``), which takes a minute a size and a C++ compiler.
        **arguments: those of ``Explainer``, and the method's own options.

    Raises:
        UsageError: an unknown backend, method or option, or no C++ compiler for ``inductor``;
        LayerError: no such layer; TargetError: more classes than there are.
    """
    return Compiled(model, method, layer, top_k=top_k, backend=backend, **arguments)


class Compiled(Explainer):
    """An explainer that runs as one static graph. Made by ``mitate.compile``."""

    def __init__(
        self,
        model: Any,
        method: str = "gradcam",
        layer: LayerSpec | Sequence[LayerSpec] = "auto",
        *,
        top_k: int | None = None,
        backend: str = "eager",
        **arguments: Any,
    ) -> None:
        """Choose what to explain and how: see ``mitate.compile``."""
        super().__init__(model, method, layer, **arguments)
        self.backend = checked_backend(backend)
        self.top_k = checked_top_k(top_k, len(self.classifier.class_names))
        missing = self.method.untraced
        self.is_traceable = not missing and not self.method.iterates
        self._start()
        if not self.is_traceable and not self._quick:
            why = (
                f"needs {' and '.join(missing)}, which no static graph gives"
                if missing
                else "repeats itself, and a static graph of all that is slower"
            )
            warnings.warn(
                f"{self.method.name} {why}: it runs as mitate.Explainer runs it, which gives the "
                "same and is no faster",
                MitateWarning,
                stacklevel=3,
            )

    def _start(self) -> None:
        """Forget all graphs, as for another classifier."""
        network = self.classifier.network
        self.batch_size = largest = self.batch_size or USUAL_BATCH  # graphs are padded up to it
        self._graphs = StaticGraphs(network, self.backend, largest, _agree)
        if "scorer" in self.method.needs and self.backend == "inductor":
            self._quick = QuickForward(self.classifier, self.backend, largest)

    def _aimed_at(self, functions: Mapping[str, Target]) -> Explainer:
        aimed = super()._aimed_at(functions)
        if isinstance(aimed, Compiled) and aimed._graphs is self._graphs:
            aimed._start()
        return aimed

    def _explained(
        self,
        inputs: Float[Tensor, "b channels *pixels"],
        wanted: Int[Tensor, "b k"] | None,
        top_k: int | None,
        advance: Advance,
    ) -> Explanation:
        number = self.top_k if top_k is None else top_k
        given = (inputs,) if wanted is None else (inputs, wanted.to(inputs.device))
        traced = self._traced(given, number if wanted is None else wanted.shape[1])
        if traced is None:
            return super()._explained(inputs, wanted, number, advance)
        found = self._graphs.found(traced.run, given)
        advance(len(inputs))
        return _explanation(traced.like, found, of_channels=self.method.weights_channels)

    def _traced(self, given: Sequence[Tensor], top_k: int) -> StaticGraph[Explanation] | None:
        """The graph for such a batch; None where none is right, or the method has none."""
        if not self.is_traceable:
            return None
        images, wanted = given[0], given[1] if len(given) > 1 else None

        def trace(padded: Sequence[Tensor]) -> Run:
            return self._plan(images).graph(padded[0], *padded[1:], top_k=top_k)

        def truth() -> Explanation:
            return super(Compiled, self)._explained(images, wanted, top_k, lambda forwards: None)

        return self._graphs.of(given, top_k, trace, truth)

    def _plan(self, inputs: Tensor) -> Plan:
        """What is traced for images of this size."""
        places, network = self.places.found(inputs), self.classifier.network
        forward = tapped_forward(network, inputs, places, read=self.classifier.read)
        pairs = list(zip(places, forward.activations, strict=True))
        grids = [self.places.grid(place, inputs, activation) for place, activation in pairs]
        ways = []
        if "head" in self.method.needs:
            for (place, activation), grid in zip(pairs, grids, strict=True):
                cells = at_least_single(grid.spatial(activation))
                ways.append(find_way(self.classifier, inputs, place, cells, forward.logits))
        return Plan(
            self.classifier,
            self.method,
            self.options,
            places,
            grids,
            self.contrast or plain_score,
            self.fusion,
            ways,
        )


class QuickForward:
    """The logits of altered images by a graph of the network's forward, where one is right."""

    def __init__(self, classifier: Classifier, backend: str, batch_size: int) -> None:
        """Start with no graph."""
        self.classifier = classifier
        self.graphs = StaticGraphs(classifier.network, backend, batch_size, _forwards_agree)

    def __call__(self, pictures: Float[Tensor, "n channels H W"]) -> Float[Tensor, "n classes"]:
        """All logits of preprocessed pictures, no more of them than the batch size."""

        def plain() -> Tensor:
            return self.classifier.logits(pictures)

        def trace(padded: Sequence[Tensor]) -> Run:
            return forward_graph(self.classifier, padded[0])

        traced = self.graphs.of((pictures,), "forward", trace, plain)
        return plain() if traced is None else self.graphs.found(traced.run, (pictures,))[0]


def _explanation(like: Explanation, found: Sequence[Tensor], *, of_channels: bool) -> Explanation:
    logits, classes, maps, *blind = found
    return replace(
        like,
        maps=maps,
        classes=classes,
        logits=at_least_single(logits),
        flags=find_flags(maps, *blind, of_channels=of_channels),
    )


def _forwards_agree(found: Sequence[Tensor], logits: Tensor) -> bool:
    return near(found[0], logits, max(LOGITS_TOLERANCE, ROUNDINGS * torch.finfo(logits.dtype).eps))


def _agree(found: Sequence[Tensor], like: Explanation) -> bool:
    """Whether a graph's result is the explainer's; classes may differ where they tie."""
    logits, classes, maps, *_ = found
    coarse = ROUNDINGS * torch.finfo(logits.dtype).eps
    same = (classes == like.classes)[(...,) + (None,) * (maps.ndim - 2)]
    return near(logits, like.logits, max(LOGITS_TOLERANCE, coarse)) and near(
        maps * same, like.maps * same, max(MAPS_TOLERANCE, coarse)
    )
