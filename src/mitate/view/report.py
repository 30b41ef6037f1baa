"""The report: one HTML file that opens from disk and needs nothing else."""

import os
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from math import isfinite
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mitate.files import write_text
from mitate.training.scores import ClassScores
from mitate.view import curve, findings, formats
from mitate.view.contents import Case, EnergyRow, MapPicture, Report

__all__ = [
    "Case",
    "ClassScores",
    "EnergyRow",
    "MapPicture",
    "Report",
    "render_report",
    "write_report",
]

HERE = Path(__file__).parent
PHOTO, HEAT = 320, 160
VERDICTS = {"wrong": "Wrong", "right": "Right", "unknown": "Predicted"}


@dataclass(frozen=True)
class Group:
    """The cases of one class: those that went wrong first, the most confident errors on top."""

    class_name: str
    parts: tuple[tuple[str, str, tuple[Case, ...]], ...]


def render_report(report: Report) -> str:
    """The report as one HTML page without any reference to the outside."""
    script = (HERE / "report.js").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            groups=tuple(_groups(report)),
            charts=curve.charts(report.curve),
            findings=findings.findings(report),
            verdict=lambda row: findings.verdict(row, report),
            reach=findings.reach(report),
            floor=best.share if (best := findings.best_control(report)) else 0.0,
            opacity=report.opacity,
            script=Markup(script),
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
            style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        )
    )


def write_report(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write the report, and its folder; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_text(path, render_report(report))


def _groups(report: Report) -> Iterator[Group]:
    found = {case.true or case.predicted for case in report.cases}
    ordered = [name for name in report.class_names if name in found]
    for name in ordered + sorted(found - set(ordered)):
        cases = [case for case in report.cases if (case.true or case.predicted) == name]
        parts = ((v, words, _sorted(cases, v)) for v, words in VERDICTS.items())
        yield Group(name, tuple(part for part in parts if part[2]))


def _sorted(cases: list[Case], verdict: str) -> tuple[Case, ...]:
    chosen = [case for case in cases if case.verdict == verdict]
    return tuple(
        sorted(chosen, key=lambda case: -case.probability if isfinite(case.probability) else 0)
    )


@cache
def environment() -> Environment:
    """Templates of pages, with what they need to show pictures and numbers."""
    pages = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.tests["finite"] = isfinite
    pages.filters["percent"] = formats.percent
    pages.filters["number"] = formats.number
    pages.filters["fraction"] = formats.fraction
    pages.filters["photo"] = lambda picture: formats.embedded(picture, PHOTO)
    pages.filters["heat"] = lambda picture: formats.embedded(picture, HEAT)
    pages.globals.update(chart_width=curve.WIDTH, chart_height=curve.HEIGHT)
    return pages
