"""Who is measured: methods at layers, and beside them maps that must not be as good."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.auditing.comparison import CONTROLS
from mitate.errors import LayerError, UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.layers import Layer, candidates
from mitate.explain.methods import find_method
from mitate.models.classifier import Classifier
from mitate.tensors import generators

# At the layer, or the pair of layers, that auto takes: each cheap, each of another idea.
METHODS_AT_AUTO = (
    "gradcam", "hirescam", "layercam", "gradcampp", "eigencam", "reciprocam", "glance",
)  # fmt: skip
# At earlier layers: those that weight cell by cell. Pooled gradients mean little there.
METHODS_AT_EARLIER = ("hirescam", "layercam")
EARLIER, AUTO = "earlier", "auto"
SMALLEST_STRIDE = 4  # of an earlier layer: before that a network has seen edges and little else
Kind = Literal["method", "control", "other class", "shifted"]
OTHER_CLASS: Final = "other class"
SHIFTED: Final = "shifted"


@dataclass(frozen=True)
class Entrant:
    """A way to make a map, of which all is measured.

    Attributes:
        method: its method's name.
        layer: where the network is tapped.
        explainer: makes its maps.
        kind: ``control`` looks at no network; ``other class`` is the explainer's map of a class
            drawn at random among the others; ``shifted`` is the explainer's map moved to another
            place, across the edges, and so as smooth and as large as a map is.
        cells: of its map.
        cost: of a map in forwards.
    """

    method: str
    layer: str
    explainer: Explainer
    cells: int
    cost: float
    kind: Kind = "method"

    @property
    def name(self) -> str:
        """What it is called everywhere: two contenders differ in it."""
        derived = f"{self.kind}: " if self.kind in (OTHER_CLASS, SHIFTED) else ""
        return f"{derived}{self.method} {self.layer}"

    @property
    def is_control(self) -> bool:
        """Whether it is there to be beaten."""
        return self.kind != "method"

    @property
    def explains(self) -> bool:
        """Whether its explainer makes its maps as they are."""
        return self.kind in ("method", "control")

    def maps(
        self, inputs: Float[Tensor, "b channels H W"], classes: Int[Tensor, " b"]
    ) -> Float[Tensor, "b h w"]:
        """Its maps of images, on their own grid."""
        if self.kind == OTHER_CLASS:
            classes = self._others(inputs, classes)
        maps = self.explainer(inputs, targets=classes).maps[:, 0]
        return self._shifted(inputs, maps) if self.kind == SHIFTED else maps

    def _others(self, inputs: Tensor, classes: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """For each image a class drawn among all others, the same in any batch."""
        number = len(self.explainer.classifier.class_names)
        steps = [
            int(torch.randint(1, number, (), generator=generator))
            for generator in generators(self.explainer.seed, list(inputs))
        ]
        return (classes.cpu() + torch.tensor(steps)) % number

    def _shifted(self, inputs: Tensor, maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        """Each map moved by rows and columns that are drawn, not by none of both."""
        height, width = maps.shape[1:]
        moved = []
        for one, generator in zip(maps, generators(self.explainer.seed, list(inputs)), strict=True):
            step = int(torch.randint(1, max(height * width, 2), (), generator=generator))
            moved.append(one.roll((step // width, step % width), (0, 1)))
        return torch.stack(moved)


def line_up(
    classifier: Classifier,
    probe: Float[Tensor, "1 channels H W"],
    *,
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    **settings: Any,
) -> tuple[list[Entrant], list[str]]:
    """The contenders and, after them, the controls; and what was left out, a sentence each.

    Args:
        classifier: what is explained.
        probe: an image such as those that are audited.
        methods: names; None takes seven at the layer that ``auto`` takes, and two of them at
            earlier ones. What of these a network does not allow is left out.
        layers: names, ``auto`` and ``earlier`` (one a grid, see ``earlier_layers``); None takes
            auto, and the earlier layers for the methods that weight cell by cell.
        **settings: of ``Explainer``: batch_size and seed.

    Raises:
        UsageError: a method or layer that was named and cannot be used, or nothing to compare.
    """
    named = [find_method(name).name for name in methods or METHODS_AT_AUTO]
    pairs = _pairs(list(dict.fromkeys(named)), layers, earlier_layers(classifier, probe))
    found: dict[str, Entrant] = {}
    left_out: list[str] = []
    for method, layer in pairs:
        try:
            one = _contender(classifier, probe, method, layer, settings)
        except (LayerError, UsageError) as exc:
            if methods is not None:
                raise
            left_out.append(f"{method} at {layer} is left out: {exc}")
            continue
        found.setdefault(one.name, one)
    contenders = [one for one in found.values() if not one.is_control]
    if not contenders:
        raise UsageError("controls alone say nothing: name a method that looks at the network")
    return [*contenders, *_controls(classifier, probe, contenders, settings)], left_out


def earlier_layers(classifier: Classifier, probe: Float[Tensor, "1 channels H W"]) -> list[str]:
    """The end of each stage before the layer that ``auto`` takes, the last stage first.

    A stage is what works on one grid; of finer grids than auto's, those of a stride of 4 or more.
    Its end is the last layer there that holds others, or else the last. In a network of one grid
    (a ViT) it is the layer in the middle.
    """
    read = classifier.read
    found = [layer for layer in candidates(classifier.network, probe, read=read) if layer.counts]
    last = Explainer(classifier, "gradcam").places.found(probe)[0].name
    end = next((place for place, layer in enumerate(found) if layer.name == last), len(found) - 1)
    before = found[:end]
    cells = found[end].grid.cells if found else 0
    pixels = probe.shape[2] * probe.shape[3]
    sizes = sorted({layer.grid.cells for layer in before if layer.grid.cells > cells})
    ends = [
        _end([layer for layer in before if layer.grid.cells == size], before)
        for size in sizes
        if size * SMALLEST_STRIDE**2 <= pixels
    ]
    if not sizes:
        blocks = [layer for layer in before if _holds_others(layer, before)]
        ends = blocks[len(blocks) // 2 :][:1]
    return [layer.name for layer in ends]


def _end(stage: Sequence[Layer], layers: Sequence[Layer]) -> Layer:
    return next((layer for layer in reversed(stage) if _holds_others(layer, layers)), stage[-1])


def _holds_others(layer: Layer, layers: Sequence[Layer]) -> bool:
    return any(other.name.startswith(f"{layer.name}.") for other in layers)


def _pairs(
    methods: Sequence[str], layers: Sequence[str] | None, earlier: Sequence[str]
) -> list[tuple[str, str]]:
    if layers is None:
        fine = [method for method in methods if method in METHODS_AT_EARLIER]
        return [(m, AUTO) for m in methods] + [(m, layer) for layer in earlier for m in fine]
    spelt = [name for layer in layers for name in (earlier if layer == EARLIER else [layer])]
    return [(method, layer) for layer in dict.fromkeys(spelt) for method in methods]


def _contender(
    classifier: Classifier, probe: Tensor, method: str, layer: str, settings: dict[str, Any]
) -> Entrant:
    """A contender that has made a map of the probe."""
    explainer = Explainer(classifier, method, layer, show_progress=False, **settings)
    explanation = explainer(probe, top_k=1)
    kind: Kind = "control" if explainer.method.is_control else "method"
    cells = explanation.maps[0, 0].numel()
    return Entrant(method, explanation.layer, explainer, cells, explanation.cost, kind)


def _controls(
    classifier: Classifier,
    probe: Tensor,
    contenders: Sequence[Entrant],
    settings: dict[str, Any],
) -> Iterator[Entrant]:
    """Every control on the first contender's grid, edges on the finest, and two derived ones."""
    first = contenders[0]
    finest = max(contenders, key=lambda one: (one.cells, not one.explainer.method.joins_layers))
    for name in CONTROLS:
        yield _contender(classifier, probe, name, first.layer, settings)
    if finest.layer != first.layer:
        yield _contender(classifier, probe, "edges", finest.layer, settings)
    if len(classifier.class_names) > 1:
        yield replace(first, kind=OTHER_CLASS)
    yield replace(first, kind=SHIFTED)
