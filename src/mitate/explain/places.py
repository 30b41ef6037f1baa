"""The layers that an explainer looks at, found once for each size of the input."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mitate.errors import LayerError
from mitate.explain import layers
from mitate.explain.grid import Grid
from mitate.explain.hooks import Place
from mitate.explain.methods import Method
from mitate.explain.names import joined_names, resolve
from mitate.explain.tap import TappedForward
from mitate.models.classifier import Classifier

PIXELS = "pixels"  # in the place of a layer's name


class Places:
    """Where a method looks at a classifier: named layers, ``auto``, or the pixels themselves."""

    def __init__(
        self, classifier: Classifier, method: Method, specs: Sequence[str | nn.Module]
    ) -> None:
        """Find the named layers.

        Args:
            classifier: whose layers.
            method: what looks at them.
            specs: each a module, a name with indices, or ``auto``; ``pixels`` alone, as an
                explanation by a method of pixels has it, for no layer.

        Raises:
            LayerError: no such layer, or none for a method that needs one.
        """
        self.classifier, self.method = classifier, method
        network = classifier.network
        of_pixels = _are_pixels(network, specs)
        if of_pixels and method.at_layer and not method.needs_cells_alone:
            raise LayerError(
                f"{method.name} looks at a layer, and pixels are none: use layer='auto', or one "
                "that `mitate layers` lists"
            )
        wanted = () if of_pixels else specs
        self._named = [None if _is_auto(spec) else resolve(network, spec) for spec in wanted]
        self._automatic: dict[tuple[int, ...], list[Place]] = {}
        self._grids: dict[tuple[Any, ...], Grid] = {}

    def __str__(self) -> str:
        """The names of the layers."""
        return joined_names(place.name if place else "auto" for place in self._named) or PIXELS

    def found(self, inputs: Float[Tensor, "b channels *pixels"]) -> list[Place]:
        """The layers that are tapped for inputs such as these; none for a method of pixels.

        None either where no layer has a grid for a method that needs its number of cells alone:
        the pixels are its cells then.
        """
        named = self._named if self.method.at_layer else []
        found = ([place] if place else self._auto(inputs) for place in named)
        return [place for places in found for place in places]

    def looked_at(
        self, places: Sequence[Place], inputs: Tensor, forward: TappedForward
    ) -> list[tuple[Place, Grid]]:
        """The tapped layers with their grids, or the pixels themselves."""
        if not places:
            channels, height, width = inputs.shape[1:]
            pixels = Grid("channels first", height, width, channels)
            return [(Place(self.classifier.network, PIXELS), pixels)]
        activations = zip(places, forward.activations, strict=True)
        return [(place, self.grid(place, inputs, given)) for place, given in activations]

    def grid(self, place: Place, inputs: Tensor, activation: Tensor) -> Grid:
        """Where the axes of a layer's output are.

        Raises:
            LayerError: it has no spatial grid.
        """
        key = (id(place.module), tuple(inputs.shape[1:]), tuple(activation.shape[1:]))
        if key not in self._grids:
            network, read = self.classifier.network, self.classifier.read
            self._grids[key] = layers.located(network, place, inputs, activation, read=read)
        return self._grids[key]

    def _auto(self, inputs: Tensor) -> list[Place]:
        size = tuple(inputs.shape[1:])
        if size not in self._automatic:
            network, read = self.classifier.network, self.classifier.read
            if self.method.joins_layers:
                found = layers.automatic_pair(network, inputs[:1], read=read)
            else:
                found = self._last(inputs)
            self._automatic[size] = [layer.place for layer in found]
        return self._automatic[size]

    def _last(self, inputs: Tensor) -> list[layers.Layer]:
        try:
            found = layers.automatic(self.classifier.network, inputs[:1], read=self.classifier.read)
        except LayerError:
            if not self.method.needs_cells_alone:
                raise
            return []
        return [found]


def _are_pixels(network: nn.Module, specs: Sequence[str | nn.Module]) -> bool:
    names = dict(network.named_modules())
    return list(specs) == [PIXELS] and PIXELS not in names


def _is_auto(spec: str | nn.Module) -> bool:
    return isinstance(spec, str) and spec == "auto"
