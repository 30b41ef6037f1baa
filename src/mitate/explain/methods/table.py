"""The one table of methods: what each needs, what it costs, and who published it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any

from mitate.errors import UsageError


class Needs(Enum):
    """What a method is given before its options.

    IMAGES: ``images (b, channels, H, W), grid (h, w), classes (b, k), generators``, one an image;
    GRADIENTS: ``activations (b, c, h, w), gradients (b, k, c, h, w)``;
    SCORES: ``activations (b, c, h, w), scorer``.
    All give ``maps (b, k, h, w)``.
    """

    IMAGES = "images"
    GRADIENTS = "gradients"
    SCORES = "masked forwards"


@dataclass(frozen=True)
class Cost:
    """Cost of an image in forward-equivalents (forward and backward count 3)."""

    forwards: float = 1
    per_class: float = 0
    per_channel: float = 0

    def of(self, channels: int, classes: int) -> float:
        """The cost of one image on a layer of so many channels, explained for so many classes."""
        return self.forwards + self.per_class * classes + self.per_channel * channels

    def __str__(self) -> str:
        terms = [f"{self.forwards:g}"]
        if self.per_class:
            terms.append(f"{self.per_class:g} x classes")
        if self.per_channel:
            factor = "" if self.per_channel == 1 else f"{self.per_channel:g} x "
            terms.append(f"{factor}live channels")
        return " + ".join(terms)


@dataclass(frozen=True)
class Method:
    """A way to make a map: a pure function and what is known about it."""

    name: str
    function: Callable[..., Any]
    needs: Needs
    family: str
    cost: Cost
    cite: str
    options: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

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
            if not (isinstance(value, kind) or whole_for_float):
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


METHODS: dict[str, Method] = {}
EXPLAINER_KEYWORDS = ("method", "layer", "batch_size", "seed", "show_progress")


def method(
    name: str, *, needs: Needs, family: str, cost: Cost, cite: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a pure function as a method; its keyword-only arguments are its options."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(function).parameters.values()
        options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        METHODS[name] = Method(name, function, needs, family, cost, cite, options)
        return function

    return register


def find_method(name: str) -> Method:
    """Find a method by name; case, hyphens and underscores do not matter.

    Raises:
        UsageError: no such method; names the nearest.
    """
    plain = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    if plain in METHODS:
        return METHODS[plain]
    near = get_close_matches(plain, METHODS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METHODS)}."
    raise UsageError(f"no method is called {name!r}: {hint} `mitate methods` lists them all")
