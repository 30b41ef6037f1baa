"""Forwards from a layer on: scores of altered activations, without running what lies before.

The forward with the layer's output as an input is traced once into a graph of plain operations.
What does not depend on that output (the shortcuts around the layer) is computed once an image;
what does is run for every altered activation.
"""

import warnings
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from mitate.errors import MitateWarning
from mitate.explain.grid import Grid
from mitate.explain.hooks import Place
from mitate.explain.scorer import Advance, Make
from mitate.explain.tap import replaced_forward
from mitate.models.classifier import Classifier
from mitate.models.mode import evaluating
from mitate.models.tasks import likelihood
from mitate.tensors import at_least_single

TOLERANCE = 1e-3  # of the logits' largest value, between the graph's and the network's


@dataclass
class Traced:
    """A forward in two halves, for batches of one size.

    Attributes:
        before: images -> what the second half needs of them.
        after: altered activations and what they need of their images -> logits.
        of_images: how many of the first half's results are of the images; the others are constants.
        batch: the batch size that both are for.
        follows_owners: whether it is known that images can be taken in another order.
    """

    before: GraphModule
    after: GraphModule
    of_images: int
    batch: int
    follows_owners: bool = False


class Suffix:
    """Scores of altered activations of one layer, for one batch of images."""

    def __init__(
        self,
        classifier: Classifier,
        place: Place,
        grid: Grid,
        inputs: Float[Tensor, "b channels H W"],
        activation: Tensor,
        logits: Float[Tensor, "b n"],
        classes: Int[Tensor, "b k"],
        batch_size: int,
        advance: Advance,
        traces: dict[Any, Traced | None],
    ) -> None:
        """Take the forward apart at a layer.

        Args:
            classifier: whose network is run.
            place: the layer; its call counts from 0.
            grid: of the layer's output.
            inputs: the preprocessed images, no more of them than ``batch_size``.
            activation: what the layer gave for them, in its own layout.
            logits: what the network gave for them.
            classes: the explained classes.
            batch_size: altered activations in one forward.
            advance: told how many forwards were run.
            traces: graphs that were traced before, by layer and sizes; they are added to.
        """
        self.classifier, self.place, self.grid = classifier, place, grid
        self.inputs, self.activation, self.classes = inputs, activation, classes
        self.batch_size, self.advance = batch_size, advance
        self.whole = logits
        self.kept: list[Tensor] = []
        self.graph = self._checked_graph(logits, traces)

    def scores(
        self, wanted: Bool[Tensor, "b m"], make: Make, *, likely: bool = False
    ) -> Float[Tensor, "b m k"]:
        """Logits (or probabilities) of the explained classes for altered activations.

        Args:
            wanted: which alterations of which image are scored; the others get 0.
            make: from owners (n,) and numbers (n,) to the altered activations (n, c, h, w).
            likely: give probabilities; of a regression the values themselves.
        """
        owners, numbers = wanted.nonzero(as_tuple=True)
        scores = torch.zeros(
            *wanted.shape, self.classes.shape[1], device=wanted.device, dtype=self._dtype
        )
        for start in range(0, len(owners), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            owner, number = owners[chosen], numbers[chosen]
            logits = at_least_single(self.logits(owner, make(owner, number)))
            found = likelihood(self.classifier.task, logits) if likely else logits
            scores[owner, number] = found.gather(1, self.classes[owner])
            self.advance(len(owner))
        return scores

    def own_scores(self) -> Float[Tensor, "b k"]:
        """Logits of the explained classes for the layer's own activations."""
        return at_least_single(self.whole).gather(1, self.classes)

    def logits(
        self, owners: Int[Tensor, " n"], activations: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n classes"]:
        """All logits for altered activations of the owners' images, a batch at most."""
        native = self._native(owners, activations.to(self.activation.dtype))
        if self.graph is None:
            return self._replaced(self.inputs[owners], native)
        with evaluating(self.classifier.network), torch.no_grad():
            graph, missing = self.graph, self.graph.batch - len(owners)
            index = torch.cat([owners, owners.new_zeros(missing)])
            sides = [
                self._of_owners(side, index) if place < graph.of_images else side
                for place, side in enumerate(self.kept)
            ]
            output: Tensor = graph.after(_padded(native, graph.batch), *sides)
            return output[: len(owners)]

    def _of_owners(self, side: Tensor, index: Int[Tensor, " batch"]) -> Tensor:
        """What the owners' images gave: rows of an image lie together, as heads in the batch do."""
        if len(self.inputs) == 1 or not side.ndim:
            return side
        apart = side.reshape(len(index), -1, *side.shape[1:])
        return apart[index].flatten(0, 1)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float64 if self.activation.dtype == torch.float64 else torch.float32

    def _native(self, owners: Tensor, activations: Float[Tensor, "n c h w"]) -> Tensor:
        """Altered activations in the layer's own layout, behind the owner's own prefix tokens."""
        if self.grid.layout == "channels first":
            return activations
        if self.grid.layout == "channels last":
            return activations.movedim(-3, -1)
        patches = activations.flatten(-2).movedim(-1, -2)
        return torch.cat([self.activation[owners, : self.grid.prefix], patches], 1)

    def _checked_graph(self, logits: Tensor, traces: dict[Any, Traced | None]) -> Traced | None:
        """A graph that gives the network's own logits for the layer's own activations, or None."""
        shape, device = tuple(self.inputs.shape[1:]), str(self.inputs.device)
        key = (self.place.name, self.place.call, self.batch_size, shape, self.inputs.dtype, device)
        for again in (False, True):
            fresh = again or key not in traces
            if fresh:
                traces[key] = self._trace()
            self.graph = traces[key]
            if self.graph is None or (
                self._agrees(logits)
                and (not fresh or self._sees_alterations())
                and self._follows_owners(logits)
            ):
                return self.graph
        traces[key] = None
        self._tell("its graph gives other scores")
        return None

    def _agrees(self, logits: Tensor) -> bool:
        graph = self.graph
        assert graph is not None
        with evaluating(self.classifier.network), torch.no_grad():
            self.kept = list(graph.before(_padded(self.inputs, graph.batch)))
        return _close(self._of_all(self.activation), logits)

    def _sees_alterations(self) -> bool:
        """Whether the graph gives the network's logits for other activations too.

        What tracing does not see (weights of a kind of their own, such as quantised ones) stands in
        the graph as it once was, and own activations do not show that.
        """
        other = self.activation.flip(1)
        return _close(self._of_all(other), self._replaced(self.inputs, other))

    def _follows_owners(self, logits: Tensor) -> bool:
        """Whether images can be taken in another order: what lies apart may not be by images."""
        graph, number = self.graph, len(self.inputs)
        assert graph is not None
        if number > 1 and not graph.follows_owners:
            turned = torch.arange(number, device=logits.device).flip(0)
            spatial = self.grid.spatial(self.activation)
            try:
                found = self.logits(turned, spatial[turned])
            except RuntimeError:
                return False
            graph.follows_owners = _close(found, logits[turned])
            return graph.follows_owners
        return True

    def _of_all(self, activation: Tensor) -> Tensor:
        """The graph's logits of all images, for native activations (b, ...)."""
        graph = self.graph
        assert graph is not None
        with evaluating(self.classifier.network), torch.no_grad():
            sides = (side.clone() for side in self.kept)
            output: Tensor = graph.after(_padded(activation, graph.batch), *sides)
        return output[: len(activation)]

    def _replaced(self, images: Tensor, activation: Tensor) -> Tensor:
        """The network's own logits for native activations, by whole forwards."""
        classifier = self.classifier
        with evaluating(classifier.network), torch.no_grad():
            return replaced_forward(
                classifier.network, images, self.place, activation, read=classifier.read
            )

    def _trace(self) -> Traced | None:
        images = _padded(self.inputs, self.batch_size)
        activation = _padded(self.activation, self.batch_size)
        try:
            return traced(self.classifier, self.place, images, activation)
        except Exception as exc:  # whatever a network's own code raises under tracing
            message = str(exc).splitlines()[0] if str(exc) else ""
            self._tell(f"{type(exc).__name__}: {message}")
            return None

    def _tell(self, reason: str) -> None:
        warnings.warn(
            f"the network cannot be traced from {self.place.name!r} on ({reason}): whole forwards "
            "are run instead, which gives the same and takes longer",
            MitateWarning,
            stacklevel=2,
        )


def _close(found: Tensor, logits: Tensor) -> bool:
    return bool((found - logits).abs().max() <= TOLERANCE * logits.abs().max())


def traced(classifier: Classifier, place: Place, images: Tensor, activation: Tensor) -> Traced:
    """Take a forward apart at a layer, for batches of the size of ``images``."""
    from torch.func import functionalize
    from torch.fx.experimental.proxy_tensor import make_fx

    def run(images: Tensor, activation: Tensor) -> Tensor:
        own = activation.clone()  # for what follows the layer in place
        return replaced_forward(classifier.network, images, place, own, read=classifier.read)

    with evaluating(classifier.network), torch.no_grad():
        whole = make_fx(functionalize(run, remove="mutations"))(images, activation)
    whole.graph.eliminate_dead_code()
    return _halves(whole, len(images))


def _halves(whole: GraphModule, batch: int) -> Traced:
    images, activation = (node for node in whole.graph.nodes if node.op == "placeholder")
    of_images, behind = _depending(whole.graph, images), _depending(whole.graph, activation)
    packed = {node for node in whole.graph.nodes if _is_packed(whole, node)}
    needed = [
        node
        for node in whole.graph.nodes
        if node not in behind
        and node not in packed
        and node.op != "output"
        and any(user in behind or user.op == "output" for user in node.users)
    ]
    ours = [node for node in needed if node in of_images]
    constants = [node for node in needed if node not in of_images]
    sides = [*ours, *constants]
    first, second = Graph(), Graph()
    copies: dict[Node, Node] = {}
    for node in whole.graph.nodes:
        if node not in behind and node.op != "output":
            copies[node] = first.node_copy(node, lambda old: copies[old])
    first.output(tuple(copies[side] for side in sides))
    copies = {activation: second.placeholder("activation")}
    copies |= {side: second.placeholder(f"side_{i}") for i, side in enumerate(sides)}
    for node in whole.graph.nodes:
        if node in packed or (node in behind and node is not activation and node.op != "output"):
            copies[node] = second.node_copy(node, lambda old: copies[old])
        elif node.op == "output":
            (result,) = node.args
            second.output(copies[result])
    for graph in (first, second):
        graph.eliminate_dead_code()
    return Traced(_module(whole, first), _module(whole, second), len(ours), batch)


def _is_packed(whole: GraphModule, node: Node) -> bool:
    """Whether a node holds an object that is no tensor, such as a quantised layer's weights."""
    return node.op == "get_attr" and not isinstance(attrgetter(str(node.target))(whole), Tensor)


def _depending(graph: Graph, source: Node) -> set[Node]:
    found = {source}
    for node in graph.nodes:
        if any(argument in found for argument in node.all_input_nodes):
            found.add(node)
    return found


def _module(whole: nn.Module, graph: Graph) -> GraphModule:
    return GraphModule(whole, graph)


def _padded(tensor: Tensor, batch: int) -> Tensor:
    missing = batch - len(tensor)
    return (
        tensor
        if not missing
        else torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])])
    )
