"""The one table of metrics: what each asks for, which way is better, and who published it."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from math import inf
from typing import Any, Literal, get_args

from mitate.auditing.steps import Step
from mitate.errors import UsageError
from mitate.explain.augmentation import VARIANTS

Family = Literal[
    "faithfulness", "localisation", "agreement", "randomisation", "robustness", "complexity"
]
Better = Literal["higher", "lower"]
Asks = Callable[..., Iterable[Sequence[Step]]]

EVIDENCE: dict[str, str] = {
    "maps": "one map an image, on its own grid (b, h, w)",
    "pixels": "the maps at the pixels of the input (b, H, W), bilinearly",
    "masks": "the share of each pixel that belongs to the region (b, H, W)",
    "segmentation": "what the network itself segments for the class (b, H, W), 1 or 0",
    "own": "the class's probability for the unaltered image (b,)",
    "images": "the preprocessed images (b, channels, H, W)",
    "classes": "the explained class of each image (b,)",
    "class_count": "how many classes there are",
    "again": "the map of each image seen through its map (b, h, w)",
    "variants": "the maps of each image mirrored and at other contrasts (b, variants, h, w)",
    "explain": "images and classes -> maps (b, h, w), by the contender's own explainer",
    "redrawn": "new weights for the network, the same for all contenders",
    "generators": "a random generator an image, new ones for each metric",
}
# New maps an image that evidence is; a metric tells how often it explains by itself.
EXPLAINED = {"again": 1, "variants": len(VARIANTS) - 1}


@dataclass(frozen=True)
class Metric:
    """What is measured of a map: a pure function and what is known about it.

    The function's positional arguments are names in ``EVIDENCE``, and after them one answer (b,
    steps) for each row of steps that ``asks`` gives: the class's probability for altered images.

    Attributes:
        name: what it is called everywhere.
        family: which question it answers.
        better: which way it is better.
        range: the least and the largest value.
        needs_masks: whether it compares with masks.
        cite: who published it.
        options: with their defaults.
        explanations: how many new maps an image it asks of the explainer, beside its evidence.
        function: from evidence and answers to one value an image.
        asks: from options to rows of altered images whose probability is needed.
        curves: what its rows are called where they are drawn.
    """

    name: str
    family: Family
    better: Better
    range: tuple[float, float]
    needs_masks: bool
    cite: str
    options: Mapping[str, Any]
    explanations: Callable[..., int]
    function: Callable[..., Any]
    asks: Asks | None = None
    curves: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @property
    def follows_confidence(self) -> bool:
        """Whether how sure the network is enters the values, since they are of its probabilities.

        Of two networks the less sure one has other values whatever its maps.
        """
        return self.asks is not None

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The evidence that its function takes, in order."""
        return tuple(name for name in _positional(self.function) if name in EVIDENCE)

    @property
    def needs_segmentation(self) -> bool:
        """Whether it compares with what the classifier itself segments."""
        return "segmentation" in self.needs

    @property
    def explains_again(self) -> bool:
        """Whether it needs the contender's explainer."""
        return "explain" in self.needs or not EXPLAINED.keys().isdisjoint(self.needs)

    def rows(self, options: Mapping[str, Any]) -> list[tuple[Step, ...]]:
        """The altered images that it asks for, a row for each of its answers."""
        if self.asks is None:
            return []
        own = _keywords(self.asks)
        return [tuple(row) for row in self.asks(**_among(options, own))]

    def value(self, evidence: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """One value an image."""
        return self.function(*evidence, **_among(options, _keywords(self.function)))

    def maps_asked(self, options: Mapping[str, Any]) -> int:
        """New maps an image, beside those that are evidence."""
        return self.explanations(**_among(options, _keywords(self.explanations)))

    def checked_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Its own options, with those of ``options`` that it has in the place of the defaults.

        Raises:
            UsageError: a value of another type, or one that an option of this name never has.
        """
        for name, default in self.options.items():
            value, kind = options.get(name, default), type(default)
            whole_for_float = kind is float and type(value) is int
            if type(value) is not kind and not whole_for_float:
                raise UsageError(
                    f"the option {name} of {self.name} takes a {kind.__name__}, not {value!r}"
                )
            least, most = RANGES.get(name, (-inf, inf))
            if kind is not str and not least <= value <= most:
                raise UsageError(
                    f"the option {name} of {self.name} is {value:g}: use {least:g} to {most:g}"
                )
        return {name: options.get(name, default) for name, default in self.options.items()}


METRICS: dict[str, Metric] = {}
RANGES = {  # of options, by their names: the least and the most, whatever the metric
    "samples": (1, inf),
    "stages": (1, inf),
    "share": (1e-3, 0.999),
    "threshold": (1e-3, 1),
    "tolerance": (0, 1),
    "radius": (1e-6, inf),
}
DEFAULT_METRICS: tuple[str, ...] = (
    "early_deletion",
    "deletion",
    "insertion",
    "road",
    "average_drop",
    "faithfulness_correlation",
    "efficient_randomisation",
    "random_logit",
    "sparseness",
    "energy",
    "rank_accuracy",
    "pointing",
)
OF_SEGMENTATION = "agreement"  # the family that the default has too where a classifier segments


def _none() -> int:
    return 0


def metric(
    name: str,
    *,
    family: Family,
    better: Better,
    range: tuple[float, float],
    cite: str,
    asks: Asks | None = None,
    curves: tuple[str, ...] = (),
    explanations: Callable[..., int] = _none,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a pure function that gives one value an image.

    Its options are its own keyword-only arguments and those of ``asks``.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        options = {**(_keywords(asks) if asks else {}), **_keywords(function)}
        masks = "masks" in _positional(function)
        METRICS[name] = Metric(
            name, family, better, range, masks, cite, options, explanations, function, asks, curves
        )
        return function

    return register


def find_metric(name: str) -> Metric:
    """Find a metric by name; case, hyphens and spaces do not matter.

    Raises:
        UsageError: no such metric; names the nearest.
    """
    plain = name.lower().replace("-", "_").replace(" ", "_")
    if plain in METRICS:
        return METRICS[plain]
    if plain in get_args(Family):
        members = ", ".join(name for name, metric in METRICS.items() if metric.family == plain)
        raise UsageError(f"{name!r} is a family of metrics: name one or more of {members}")
    near = get_close_matches(plain, [*METRICS, *get_args(Family)], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METRICS)}"
    raise UsageError(f"no metric is called {name!r}: {hint}")


def find_metrics(names: Iterable[str]) -> list[str]:
    """Names of metrics as the table has them, each once; a family stands for all of its metrics.

    Raises:
        UsageError: no such metric or family.
    """
    found: list[str] = []
    for name in names:
        family = [metric.name for metric in METRICS.values() if metric.family == name.lower()]
        found += family or [find_metric(name).name]
    return list(dict.fromkeys(found))


def _positional(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _among(options: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    return {name: options[name] for name in known if name in options}
