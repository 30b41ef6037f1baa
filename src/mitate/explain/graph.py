"""Explanations by one static graph: prediction and maps without hooks or autograd at run time.

The graph is of plain operations (core ATen) on the network's own weights, for batches of one size.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mitate.errors import MitateWarning, UsageError
from mitate.explain.evidence import plain_score
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation
from mitate.explain.flags import find_flags
from mitate.explain.head import find_way
from mitate.explain.layers import LayerSpec
from mitate.explain.outputs import Target
from mitate.explain.tap import tapped_forward
from mitate.explain.targets import checked_top_k
from mitate.explain.tracing import TRACEABLE, Plan
from mitate.progress import Advance
from mitate.tensors import at_least_single

BACKENDS = ("eager", "inductor")
# Of the norm of logits and of maps, between a graph's and the explainer's; and in half precision so
# many of its roundings. A sum over channels may cancel; a graph that is wrong is far off.
LOGITS_TOLERANCE, MAPS_TOLERANCE, ROUNDINGS = 1e-3, 0.1, 32
Run = Callable[..., tuple[Tensor, ...]]
Weights = list[tuple[Tensor, tuple[int, ...]]]  # parameters and buffers, with their strides


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
            numbers are run by the explainer instead, as a warning says.
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


@dataclass(frozen=True)
class StaticGraph:
    """A graph for batches of one size.

    Attributes:
        run: the images and the named classes -> logits, classes, maps, and where no gradient is.
        weights: what it was traced with.
        like: an explanation with all that such batches have in common.
    """

    run: Run
    weights: Weights
    like: Explanation


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
        self.backend = _checked_backend(backend)
        self.top_k = checked_top_k(top_k, len(self.classifier.class_names))
        self._graphs: dict[Any, StaticGraph | None] = {}
        missing = [need for need in self.method.needs if need not in TRACEABLE]
        self.is_traceable = not missing
        if missing:
            warnings.warn(
                f"{self.method.name} needs {' and '.join(missing)}, which no static graph gives: "
                "it runs as mitate.Explainer runs it, which gives the same and is no faster",
                MitateWarning,
                stacklevel=3,
            )

    def _aimed_at(self, functions: Mapping[str, Target]) -> Explainer:
        aimed = super()._aimed_at(functions)
        if isinstance(aimed, Compiled) and aimed._graphs is self._graphs:
            aimed._graphs = {}
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
        found = _found(traced.run, given, self.batch_size)
        advance(len(inputs))
        return _explanation(traced.like, found)

    def _traced(self, given: Sequence[Tensor], top_k: int) -> StaticGraph | None:
        """The graph for such a batch: one that there is, or a new one; None where none is right."""
        if not self.is_traceable:
            return None
        images, network = given[0], self.classifier.network
        key = (
            _padded_size(len(images), self.batch_size),
            tuple(images.shape[1:]),
            images.dtype,
            images.device,
            len(given),
            top_k,
            _autocast(images.device),
        )
        known = self._graphs.get(key)
        if key not in self._graphs or (known and not _same(known.weights, _weights(network))):
            self._graphs[key] = self._checked(given, top_k)
        return self._graphs[key]

    def _checked(self, given: Sequence[Tensor], top_k: int) -> StaticGraph | None:
        """Trace a batch, and compare what the graph gives with what the explainer gives."""
        wanted = given[1] if len(given) > 1 else None
        like = super()._explained(given[0], wanted, top_k, lambda forwards: None)
        padded = _padded(given, self.batch_size)
        try:
            run: Run = self._plan(given[0]).graph(padded[0], *padded[1:], top_k=top_k)
        except Exception as exc:  # whatever a network's own code raises under tracing
            self._told(f"cannot be traced ({_first_line(exc)}): the explainer runs it")
            return None
        if not _agree(_found(run, given, self.batch_size), like):
            self._told(
                "gives another result as a static graph, as networks do that draw random numbers "
                "or look at the whole batch: the explainer runs it"
            )
            return None
        if self.backend == "inductor":
            run = self._faster(run, given, like)
        return StaticGraph(run, _weights(self.classifier.network), like)

    def _faster(self, run: Run, given: Sequence[Tensor], like: Explanation) -> Run:
        """The graph as inductor compiles it; as it is where inductor cannot."""
        compiled: Run = torch.compile(run, dynamic=False, fullgraph=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what PyTorch says of its own old ways
                found = _found(compiled, given, self.batch_size)
        except Exception as exc:  # whatever a compiler raises
            self._told(f"cannot be compiled by inductor ({_first_line(exc)}): its graph runs as is")
            return run
        if _agree(found, like):
            return compiled
        self._told("gives another result when inductor compiles it: its graph runs as is")
        return run

    def _plan(self, inputs: Tensor) -> Plan:
        """What is traced for images of this size."""
        places, network = self.places(inputs), self.classifier.network
        forward = tapped_forward(network, inputs, places, read=self.classifier.read)
        pairs = list(zip(places, forward.activations, strict=True))
        grids = [self._grid(place, inputs, activation) for place, activation in pairs]
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

    def _told(self, what: str) -> None:
        network = type(self.classifier.network).__name__
        warnings.warn(f"{network} {what}, which takes longer", MitateWarning, stacklevel=2)


def _found(run: Run, given: Sequence[Tensor], batch_size: int) -> tuple[Tensor, ...]:
    """What a graph gives for a batch that may be smaller than the graph's."""
    with torch.no_grad():
        return tuple(each[: len(given[0])] for each in run(*_padded(given, batch_size)))


def _explanation(like: Explanation, found: Sequence[Tensor]) -> Explanation:
    logits, classes, maps, *blind = found
    return replace(
        like,
        maps=maps,
        classes=classes,
        logits=at_least_single(logits),
        flags=find_flags(maps, *blind),
    )


def _agree(found: Sequence[Tensor], like: Explanation) -> bool:
    """Whether a graph's result is the explainer's; classes may differ where they tie."""
    logits, classes, maps, *_ = found
    coarse = ROUNDINGS * torch.finfo(logits.dtype).eps
    same = (classes == like.classes)[(...,) + (None,) * (maps.ndim - 2)]
    return _near(logits, like.logits, max(LOGITS_TOLERANCE, coarse)) and _near(
        maps * same, like.maps * same, max(MAPS_TOLERANCE, coarse)
    )


def _near(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    ours, theirs = (torch.nan_to_num(tensor.double()) for tensor in (found, wanted))
    return bool((ours - theirs).norm() <= tolerance * theirs.norm())


def _padded(given: Sequence[Tensor], batch_size: int) -> tuple[Tensor, ...]:
    """Tensors of as many images as a graph takes, the first image in the empty places."""
    missing = _padded_size(len(given[0]), batch_size) - len(given[0])
    return tuple(
        torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])]).contiguous()
        for tensor in given
    )


def _padded_size(number: int, batch_size: int) -> int:
    """The next power of two, or a whole batch, so that few graphs serve every number of images."""
    return min(1 << (number - 1).bit_length(), batch_size)


def _weights(network: nn.Module) -> Weights:
    """Parameters and buffers as they are now."""
    return [(each, each.stride()) for each in chain(network.parameters(), network.buffers())]


def _same(before: Weights, now: Weights) -> bool:
    """Whether these are the same tensors; their numbers may have changed."""
    return len(before) == len(now) and all(
        old is new and strides == steps
        for (old, strides), (new, steps) in zip(before, now, strict=True)
    )


def _autocast(device: torch.device) -> torch.dtype | None:
    """What autocast would round to; None where it is off."""
    on = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if on else None


def _first_line(exc: Exception) -> str:
    told = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {told[0]}" if told else type(exc).__name__


def _checked_backend(backend: str) -> str:
    """The name of a backend.

    Raises:
        UsageError: no such backend, or no C++ compiler for it.
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r}: use one of {', '.join(BACKENDS)}")
    if backend == "inductor":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as exc:
            raise UsageError(
                "backend='inductor' needs a C++ compiler and finds none: install g++ or clang++, "
                "set CXX to one, or take backend='eager'"
            ) from exc
    return backend
