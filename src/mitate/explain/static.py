"""Functions of a batch as static graphs: traced once for each size, checked, and compiled.

A batch that is smaller than a graph's is filled up with its first image.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from mitate.errors import MitateWarning, UsageError
from mitate.tensors import exact

BACKENDS = ("eager", "inductor")
Run = Callable[..., tuple[Tensor, ...]]
Found = tuple[Tensor, ...]
Weights = list[tuple[Tensor, tuple[int, ...]]]  # parameters and buffers, with their strides
Like = TypeVar("Like")


@dataclass(frozen=True)
class StaticGraph(Generic[Like]):
    """A graph for batches of one size.

    Attributes:
        run: what it was traced of, as a function of tensors.
        weights: what it was traced with.
        like: what the first such batch gave without a graph.
    """

    run: Run
    weights: Weights
    like: Like


class StaticGraphs(Generic[Like]):
    """Graphs of one function of batches; none where a graph would not be right, as is told."""

    def __init__(
        self,
        network: nn.Module,
        backend: str,
        batch_size: int,
        agree: Callable[[Found, Like], bool],
    ) -> None:
        """Start with no graph.

        Args:
            network: whose weights the function uses.
            backend: ``eager`` or ``inductor``.
            batch_size: the largest batch.
            agree: whether what a graph gives is what the function gave without it.
        """
        self.network, self.backend, self.batch_size = network, backend, batch_size
        self.agree = agree
        self.made: dict[Any, StaticGraph[Like] | None] = {}

    def of(
        self,
        given: Sequence[Tensor],
        kind: Any,
        trace: Callable[[Sequence[Tensor]], Run],
        truth: Callable[[], Like],
    ) -> StaticGraph[Like] | None:
        """The graph for such a batch: one that there is, or a new one; None where none is right.

        Args:
            given: the tensors of the batch, the images first.
            kind: what else the graph depends on.
            trace: from tensors to a graph of them.
            truth: gives what the graph is compared with.
        """
        images = given[0]
        key = (
            _padded_size(len(images), self.batch_size),
            tuple(images.shape[1:]),
            images.dtype,
            images.device,
            len(given),
            kind,
            _autocast(images.device),
        )
        known = self.made.get(key)
        if key not in self.made or (known and not _same(known.weights, _weights(self.network))):
            self.made[key] = self._checked(given, trace, truth())
        return self.made[key]

    def found(self, run: Run, given: Sequence[Tensor]) -> Found:
        """What a graph gives for a batch that may be smaller than the graph's."""
        with torch.no_grad():
            padded = self._padded(given)
            return tuple(each[: len(given[0])] for each in run(*padded))

    def _checked(
        self, given: Sequence[Tensor], trace: Callable[[Sequence[Tensor]], Run], like: Like
    ) -> StaticGraph[Like] | None:
        try:
            run = trace(self._padded(given))
        except Exception as exc:  # whatever a network's own code raises under tracing
            self._told(f"cannot be traced ({_first_line(exc)}): it runs as it is")
            return None
        if not self.agree(self.found(run, given), like):
            self._told(
                "gives another result as a static graph, as networks do that draw random numbers "
                "or look at the whole batch: it runs as it is"
            )
            return None
        if self.backend == "inductor":
            run = self._faster(run, given, like)
        return StaticGraph(run, _weights(self.network), like)

    def _faster(self, run: Run, given: Sequence[Tensor], like: Like) -> Run:
        """The graph as inductor compiles it; as it is where inductor cannot."""
        compiled: Run = torch.compile(run, dynamic=False, fullgraph=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what PyTorch says of its own old ways
                found = self.found(compiled, given)
        except Exception as exc:  # whatever a compiler raises
            self._told(f"cannot be compiled by inductor ({_first_line(exc)}): its graph runs as is")
            return run
        if self.agree(found, like):
            return compiled
        self._told("gives another result when inductor compiles it: its graph runs as is")
        return run

    def _padded(self, given: Sequence[Tensor]) -> Found:
        """Tensors of as many images as a graph takes, the first image in the empty places."""
        missing = _padded_size(len(given[0]), self.batch_size) - len(given[0])
        return tuple(
            torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])]).contiguous()
            for tensor in given
        )

    def _told(self, what: str) -> None:
        network = type(self.network).__name__
        warnings.warn(f"{network} {what}, which takes longer", MitateWarning, stacklevel=2)


def near(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by no more than a share of the wanted one's norm."""
    ours, theirs = (torch.nan_to_num(exact(tensor)) for tensor in (found, wanted))
    return bool((ours - theirs).norm() <= tolerance * theirs.norm())


def checked_backend(backend: str) -> str:
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
