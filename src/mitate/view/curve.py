"""Curves as points of a small inline SVG: of training, and of an audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, isfinite, log10

WIDTH, HEIGHT = 420, 180
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 10, 22
TOLD = (0.0, 0.0125, 0.05, 0.2, 0.5, 1.0)  # of the fractions of pixels, under the axis


@dataclass(frozen=True)
class Line:
    """One curve: its name, the points of its polyline, and its last point."""

    name: str
    points: str
    end: tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """Curves with the ticks of both axes as (position, words)."""

    title: str
    lines: tuple[Line, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def charts(curve: Sequence[tuple[int, float, float, float]]) -> tuple[Chart, ...]:
    """A chart of the losses and one of the accuracy, of what has at least one number."""
    epochs = [float(row[0]) for row in curve]
    losses = {"training": [row[1] for row in curve], "validation": [row[2] for row in curve]}
    accuracy = {"accuracy": [row[3] for row in curve]}
    drawn = (_chart("Loss", epochs, losses), _chart("Accuracy on validation", epochs, accuracy))
    return tuple(chart for chart in drawn if chart.lines)


def step_chart(
    title: str, fractions: Sequence[float], series: Mapping[str, Sequence[float]]
) -> Chart:
    """Curves over fractions whose steps stand side by side, however small they are.

    Args:
        title: of the chart.
        fractions: of the steps, ascending.
        series: by name, one value a step.
    """
    steps = [float(step) for step in range(len(fractions))]
    chart = _chart(title, steps, dict(series))
    across = _Scale(steps[0], steps[-1], LEFT, WIDTH - RIGHT)
    told = [step for step, fraction in enumerate(fractions) if fraction in TOLD]
    return replace(chart, across=tuple((across(s), f"{100 * fractions[s]:g} %") for s in told))


def _chart(title: str, epochs: Sequence[float], series: Mapping[str, Sequence[float]]) -> Chart:
    known = [value for values in series.values() for value in values if isfinite(value)]
    if not known:
        return Chart(title, (), (), ())
    ticks = _ticks(min(0.0, *known), max(0.0, *known))
    across = _Scale(min(epochs), max(epochs), LEFT, WIDTH - RIGHT)
    up = _Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    lines = (_line(name, epochs, values, across, up) for name, values in series.items())
    shown = sorted({round(e) for e in (epochs[0], (epochs[0] + epochs[-1]) / 2, epochs[-1])})
    return Chart(
        title,
        tuple(line for line in lines if line.points),
        tuple((across(epoch), str(epoch)) for epoch in shown),
        tuple((up(tick), f"{tick:g}") for tick in ticks),
    )


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def _line(
    name: str, epochs: Sequence[float], values: Sequence[float], across: _Scale, up: _Scale
) -> Line:
    points = [(across(e), up(v)) for e, v in zip(epochs, values, strict=True) if isfinite(v)]
    return Line(name, " ".join(f"{x},{y}" for x, y in points), points[-1] if points else (0, 0))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, three to seven of them, that enclose a range."""
    span = max(high - low, 1e-9)
    magnitude = 10.0 ** floor(log10(span))
    step = next(s * magnitude for s in (0.2, 0.5, 1, 2) if span / (s * magnitude) <= 5)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]
