"""Writes what the docs take from the program itself: commands, tables of methods and of metrics.

Run it after a command, a method or a metric has changed: .venv/bin/python docs/generate.py
"""

from collections.abc import Mapping
from pathlib import Path

from cyclopts import Argument

from mitate.auditing.plan import Plan
from mitate.auditing.table import EXPLAINED, METRICS, Metric
from mitate.cli.app import COMMANDS, app
from mitate.explain.methods import METHODS

DOCS = Path(__file__).parent
REGENERATE = ".venv/bin/python docs/generate.py"
BEGIN, END = f"<!-- written by {REGENERATE} -->", "<!-- end -->"
HEAD = f"""# Commands

{BEGIN}

Any command takes `--help`, and `--traceback` to show where an error came from. Results go to
standard output, progress and notes to standard error. A classifier REF is a reference as in
[classifiers](classifiers.md).

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed |
| 2 | wrong usage |
| 3 | finished, but some images failed (a training leaves them out, tells which, and ends with 0) |
| 4 | a threshold was missed (`--require` of `mitate audit` and `mitate compare`) |
| 130 | interrupted |
"""


def commands() -> str:
    """The page commands.md: every command with its arguments, options and defaults."""
    return "\n".join([HEAD, *(_command(name, summary) for name, summary in COMMANDS.items())])


def methods() -> str:
    """The table of methods in methods.md."""
    rows = [
        ("method", "family", "what it is", "options", "cost in forwards", "published"),
        ("---",) * 6,
        *(
            (
                f"`{method.name}`",
                method.family,
                method.summary.replace("``", "`"),
                _options(method.options),
                str(method.cost),
                _linked(method.cite),
            )
            for method in METHODS.values()
        ),
    ]
    return "\n".join(map(_row, rows))


def metrics() -> str:
    """The table of metrics in metrics.md."""
    rows = [
        ("metric", "family", "what it is", "better", "options", "cost", "published"),
        ("---",) * 7,
        *(
            (
                f"`{metric.name}`{_asked(metric)}",
                metric.family,
                metric.summary.replace("``", "`"),
                f"{metric.better}, {metric.range[0]:g} to {metric.range[1]:g}",
                _options(metric.options),
                _cost(metric),
                _linked(metric.cite),
            )
            for metric in METRICS.values()
        ),
    ]
    return "\n".join(map(_row, rows))


def with_methods(page: str) -> str:
    """A page whose table of methods is written anew."""
    return _with(page, methods())


def with_metrics(page: str) -> str:
    """A page whose table of metrics is written anew."""
    return _with(page, metrics())


def _with(page: str, table: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


def _asked(metric: Metric) -> str:
    """What a metric compares maps with, that not everyone has."""
    if metric.needs_masks:
        return " (masks)"
    return " (segmentation)" if metric.needs_segmentation else ""


def _cost(metric: Metric) -> str:
    plan = Plan.of([metric], {metric.name: metric.options})
    maps = metric.maps_asked(metric.options)
    maps += sum(EXPLAINED.get(need, 0) for need in metric.needs)
    shared = len(plan.common) + metric.needs_segmentation
    parts = {"shared": shared, "forwards": len(plan.own), "maps": maps}
    return ", ".join(f"{number} {word}" for word, number in parts.items() if number) or "none"


def _command(name: str, summary: str) -> str:
    arguments = app[name].assemble_argument_collection(parse_docstring=True)
    required = [_usage(argument) for argument in arguments if argument.required]
    usage = " ".join(["mitate", name, *required, "[OPTIONS]"])
    rows = [
        ("", "what", "default"),
        ("---",) * 3,
        *((_names(found), _help(found), _default(found)) for found in arguments),
    ]
    return "\n".join(
        [f"## mitate {name}", "", summary, "", f"    {usage}", "", *map(_row, rows), ""]
    )


def _usage(argument: Argument) -> str:
    name = argument.names[0]
    return f"{name} PATH" if name.startswith("-") else name


def _names(argument: Argument) -> str:
    return ", ".join(f"`{name}`" for name in argument.names)


def _help(argument: Argument) -> str:
    words = " ".join((argument.parameter.help or "").split())
    choices = argument.get_choices()
    return f"{words} ({', '.join(choices)})" if choices else words


def _default(argument: Argument) -> str:
    if argument.required:
        return "required"
    default = argument.field_info.default
    values = default if isinstance(default, tuple) else (default,)
    shown = (str(value) for value in values if value not in (None, "") and value is not False)
    return ", ".join(f"`{value}`" for value in shown)


def _options(options: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in options.items())


def _linked(cite: str) -> str:
    words = cite.split(" ")
    for index, word in enumerate(words):
        place = word.rstrip(",;)")
        kind, colon, rest = place.partition(":")
        home = {"doi": "https://doi.org/", "arXiv": "https://arxiv.org/abs/"}.get(kind)
        if colon and home:
            words[index] = word.replace(place, f"[{place}]({home}{rest})")
    return " ".join(words)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write all of them."""
    (DOCS / "commands.md").write_text(commands(), encoding="utf-8")
    for name, written in (("methods.md", with_methods), ("metrics.md", with_metrics)):
        page = DOCS / name
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
