"""What a report says in words: derived from its numbers, and only where they bear it."""

from collections.abc import Iterator
from math import isfinite

from mitate.view.contents import EnergyRow, Report
from mitate.view.formats import percent


def findings(report: Report) -> tuple[str, ...]:
    """The sentences under the key numbers."""
    return tuple(
        sentence
        for said in (_scores, _weakest, _confused, _maps, _flagged)
        for sentence in said(report)
    )


def verdict(row: EnergyRow, report: Report) -> str:
    """The words for one line of the energy table; the caller's own where there are any."""
    if row.verdict or row.control:
        return row.verdict
    best = best_control(report)
    if best is None or not isfinite(row.low):
        return ""
    if row.low > best.share:
        return "better than the best control"
    return f"not better than the best control ({best.method}, {percent(best.share)})"


def best_control(report: Report) -> EnergyRow | None:
    """The control with most of its energy in the region."""
    controls = [row for row in report.energy if row.control and isfinite(row.share)]
    return max(controls, key=lambda row: row.share, default=None)


def reach(report: Report) -> float:
    """The share at the right end of the drawn intervals."""
    shares = (value for row in report.energy for value in (row.share, row.high))
    return 1.05 * max((value for value in shares if isfinite(value) and value > 0), default=1.0)


def _scores(report: Report) -> Iterator[str]:
    if report.accuracy is None:
        yield "No true classes were given, so there are no scores: only what was predicted."


def _weakest(report: Report) -> Iterator[str]:
    known = [scores for scores in report.classes if scores.support and isfinite(scores.recall)]
    weakest = min(known, key=lambda scores: scores.recall, default=None)
    if weakest is not None and weakest.recall == 1:
        yield "Every image of every class was recognised."
    elif weakest is not None:
        found = percent(weakest.recall)
        yield f"Weakest class: {weakest.name}, recognised in {found} of its images."


def _confused(report: Report) -> Iterator[str]:
    names = report.class_names
    errors = [
        (count, sum(row), names[true], names[predicted])
        for true, row in enumerate(report.confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    if errors:
        count, total, true, predicted = max(errors, key=lambda error: error[0])
        yield f"Most often confused: {true} taken for {predicted}, {count} of {total}."


def _maps(report: Report) -> Iterator[str]:
    methods = [row for row in report.energy if not row.control and isfinite(row.share)]
    best, control = max(methods, key=lambda row: row.share, default=None), best_control(report)
    if best is None:
        return
    beside = f"; the best control, {control.method}, {percent(control.share)}" if control else ""
    yield f"{best.method} has {percent(best.share)} of its energy on {report.region}{beside}."


def _flagged(report: Report) -> Iterator[str]:
    flagged = sum(bool(shown.flag) for case in report.cases for shown in case.maps)
    if flagged:
        yield f"{flagged} {'map is' if flagged == 1 else 'maps are'} flagged as not to be read."
