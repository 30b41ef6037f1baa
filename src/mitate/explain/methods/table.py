"""The one table of methods: what each needs, what it costs, and who published it."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from types import MappingProxyType
from typing import Any

from jaxtyping import Float
from torch import Tensor, einsum

from mitate.errors import UsageError
from mitate.explain.components import first_component
from mitate.explain.methods.kinds import EVIDENCE, Kind

BACKWARD = 2  # forward-equivalents


@dataclass(frozen=True)
class Cost:
    """Cost of an image in forward-equivalents (forward and backward count 3).

    Attributes:
        forwards: whatever the image.
        per_class: for each explained class.
        per_channel: for each channel of the layer that varies over space.
        per_cell: for each cell of the layer's grid.
        per_sample: for each of the method's ``samples``.
        per_group: for each of the method's ``groups`` and each explained class.
        per_step: for each of the method's ``steps`` and each explained class, at most.
        per_window: for each place of the method's ``window`` at its ``stride``.
        passes: the option that says how many more forwards there are, each with a backward a class.
        partial: whether channels and cells cost a forward from the layer on only.
    """

    forwards: float = 1
    per_class: float = 0
    per_channel: float = 0
    per_cell: float = 0
    per_sample: float = 0
    per_group: float = 0
    per_step: float = 0
    per_window: float = 0
    passes: str = ""
    partial: bool = False

    def of(
        self,
        channels: int,
        classes: int,
        cells: int = 0,
        options: Mapping[str, Any] = MappingProxyType({}),
        share: float = 1,
    ) -> float:
        """The cost of one image; ``share`` is that of a forward from the layer on."""
        across = windows_across(options.get("window", 1), options.get("stride", 1))
        repeated = self.per_channel * channels + self.per_cell * cells
        drawn: int = options.get("samples", 0)
        groups: int = options.get("groups", 0)
        passes: int = options.get(self.passes, 0)
        steps: int = options.get("steps", 0)
        return (
            self.forwards
            + self.per_class * classes
            + repeated * (share if self.partial else 1)
            + self.per_sample * drawn
            + self.per_group * groups * classes
            + self.per_step * steps * classes
            + self.per_window * across**2
            + passes * (1 + BACKWARD * classes)
        )

    def __str__(self) -> str:
        parts = " x suffix" if self.partial else ""
        terms = {
            "classes": self.per_class,
            f"live channels{parts}": self.per_channel,
            f"cells{parts}": self.per_cell,
            "samples": self.per_sample,
            "classes x groups": self.per_group,
            "classes x steps": self.per_step,
            "windows": self.per_window,
        }
        told = [f"{'' if n == 1 else f'{n:g} x '}{word}" for word, n in terms.items() if n]
        passes = [f"{self.passes} x (1 + {BACKWARD} x classes)"] if self.passes else []
        return " + ".join([f"{self.forwards:g}", *told, *passes])


@dataclass(frozen=True)
class Method:
    """A way to make a map: a pure function and what is known about it.

    ``needs`` are the names of the function's positional arguments, kinds of evidence (kinds.py).
    With ``own_grid`` the map's grid is the method's own; otherwise it is a layer's. ``iterates``
    tells that it repeats itself so often that a static graph of it would be slower.
    """

    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    family: str
    cost: Cost
    cite: str
    options: Mapping[str, Any]
    own_grid: bool = False
    iterates: bool = False

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @property
    def evidence(self) -> tuple[Kind, ...]:
        """What it needs, in its order."""
        return tuple(EVIDENCE[need] for need in self.needs)

    @property
    def looks_at(self) -> str:
        """What it needs of the network, in words."""
        return next(
            kind.word for need, kind in EVIDENCE.items() if kind.word and need in self.needs
        )

    @property
    def differentiates(self) -> bool:
        """Whether it sees the score through its derivatives."""
        return any(kind.derived for kind in self.evidence)

    @property
    def looks_at_scores(self) -> bool:
        """Whether scores have a part in its maps, beside the choice of the classes."""
        return any(kind.derived or kind.scored for kind in self.evidence)

    @property
    def records(self) -> bool:
        """Whether the images' own forward is recorded, for its backward."""
        return any(kind.recorded for kind in self.evidence)

    @property
    def shares_gradients(self) -> bool:
        """Whether it needs gradients at layers: one backward a score serves all of them."""
        return any(kind.gradient for kind in self.evidence)

    @property
    def counts(self) -> bool:
        """Whether it runs forwards of its own, and tells of them as they are run."""
        return any(kind.counted for kind in self.evidence)

    @property
    def untraced(self) -> tuple[str, ...]:
        """What it needs that no static graph can give."""
        return tuple(need for need in self.needs if not EVIDENCE[need].traced)

    @property
    def contrasts(self) -> bool:
        """Whether it sees the score through its derivatives only, so that any score will do."""
        return self.differentiates and "scorer" not in self.needs

    @property
    def at_layer(self) -> bool:
        """Whether it looks at a layer; otherwise its maps are of the input's pixels."""
        return any(kind.at_layer for kind in self.evidence)

    @property
    def weights_channels(self) -> bool:
        """Whether its maps are of channels, weighted."""
        return "activations" in self.needs and not self.cost.per_cell

    @property
    def needs_cells_alone(self) -> bool:
        """Whether of a layer it needs the number of cells alone, so that pixels would do."""
        return [need for need in self.needs if EVIDENCE[need].at_layer] == ["grid"]

    @property
    def joins_layers(self) -> bool:
        """Whether it makes one map of several layers, and ``auto`` means an early one too."""
        return "pyramid" in self.needs

    @property
    def can_teach(self) -> bool:
        """Whether its maps can be differentiated with respect to the weights."""
        others = (need for need in self.needs if need != "activations")
        return self.shares_gradients and all(EVIDENCE[need].gradient for need in others)

    @property
    def takes_volumes(self) -> bool:
        """Whether it makes maps of volumes (b, channels, D, H, W) too."""
        return all(kind.volumes for kind in self.evidence)

    @property
    def is_control(self) -> bool:
        """Whether the map is made without looking at the network."""
        return self.family == "control"

    def checked_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The method's options with defaults filled in.

        Raises:
            UsageError: an option that the method does not have, or a value of another type.
        """
        for name, value in options.items():
            if name not in self.options:
                raise UsageError(self._unknown_option(name))
            kind = type(self.options[name])
            whole_for_float = kind is float and type(value) is int
            told = isinstance(value, bool) and kind is not bool
            endless = isinstance(value, float) and not math.isfinite(value)
            if told or endless or not (isinstance(value, kind) or whole_for_float):
                raise UsageError(
                    f"{self.name}'s option {name} takes a {kind.__name__}, not {value!r}"
                )
        return {**self.options, **options}

    def _unknown_option(self, name: str) -> str:
        known = (*self.options, *EXPLAINER_KEYWORDS)
        near = get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}? " if near else ""
        return (
            f"{self.name} has no option {name!r}: {hint}"
            f"its options: {', '.join(self.options) or 'none'}"
        )


def windows_across(window: float, stride: float) -> int:
    """How many windows lie along a side; both are shares of it, and the last may cross the edge.

    Raises:
        UsageError: shares that are none, or a stride over the window, which leaves pixels out.
    """
    if not 0 < stride <= window <= 1:
        raise UsageError("window and stride are shares of the image's sides: 0 < stride <= window")
    return math.ceil((1 - window) / stride - 1e-9) + 1


METHODS: dict[str, Method] = {}
FAMILIES = (
    "weights",
    "gradients",
    "several layers",
    "small things",
    "masked forwards",
    "decomposition",
    "attention",
    "pixels",
    "control",
)
EXPLAINER_KEYWORDS = (
    "method",
    "layer",
    "budget",
    "fusion",
    "against",
    "strength",
    "augment",
    "batch_size",
    "seed",
    "show_progress",
    "differentiable",
)


def method(
    name: str,
    *,
    family: str,
    cost: Cost,
    cite: str,
    own_grid: bool = False,
    iterates: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a pure function that gives maps (b, k, h, w), or maps and an ``Estimate`` of them.

    It is given what its positional arguments name; its keyword-only arguments are its options.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        needs, options = _signature(function)
        METHODS[name] = Method(
            name, function, needs, family, cost, cite, options, own_grid, iterates
        )
        return function

    return register


def weighting(
    name: str, *, family: str, cost: Cost, cite: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function that gives weights: of channels (b, k, c), or of each of their cells.

    The method's map is the sum of the weighted activations over channels. Its options are the
    function's own and those of ``summed``. Weights that are estimated come with the maps'
    ``Estimate``.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        needs, options = _signature(function)
        _, common = _signature(summed)

        @wraps(function)
        def maps(*evidence: Any, **given: Any) -> Any:
            own = {name: value for name, value in given.items() if name in options}
            rest = {name: value for name, value in given.items() if name in common}
            made = function(*evidence, **own)
            if isinstance(made, tuple):  # with an estimate of the error
                weights, estimate = made
                return summed(evidence[0], weights, **rest), estimate
            return summed(evidence[0], made, **rest)

        METHODS[name] = Method(name, maps, needs, family, cost, cite, {**options, **common})
        return maps

    return register


def summed(
    activations: Float[Tensor, "b c h w"],
    weights: Float[Tensor, "b k c *cells"],
    *,
    signed: bool = False,
    principal: bool = False,
) -> Float[Tensor, "b k h w"]:
    """Sum weighted activations over channels.

    Args:
        activations: what the layer gave.
        weights: of channels (b, k, c), or of each of their cells (b, k, c, h, w).
        signed: keep what speaks against the class, as negative numbers.
        principal: instead of the sum, the projection on the weighted activations' first principal
            direction, which smooths (grad-cam's ``eigen_smooth``, Gildenblat).
    """
    if principal:
        weighted = weights if weights.ndim == 5 else weights[..., None, None]
        maps = first_component(weighted * activations[:, None])
    elif weights.ndim == 3:
        maps = einsum("bkc,bchw->bkhw", weights, activations)
    else:
        maps = einsum("bkchw,bchw->bkhw", weights, activations)
    return maps if signed else maps.relu()


def _signature(function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What a method's function needs, and its options with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    needs = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return needs, {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def in_order_of_families() -> None:
    """Order the table by family, whichever file was imported first."""
    for name in sorted(METHODS, key=lambda name: FAMILIES.index(METHODS[name].family)):
        METHODS[name] = METHODS.pop(name)


def find_method(name: str) -> Method:
    """Find a method by name; case, hyphens and underscores do not matter.

    Raises:
        UsageError: no such method; names the nearest.
    """
    if not isinstance(name, str):
        raise UsageError(f"method is {name!r}: give a name; `mitate methods` lists them all")
    plain = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    if plain in METHODS:
        return METHODS[plain]
    near = get_close_matches(plain, METHODS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METHODS)}."
    raise UsageError(f"no method is called {name!r}: {hint} `mitate methods` lists them all")
