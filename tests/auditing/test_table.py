import inspect
import math

import pytest

from mitate.auditing.table import DEFAULT_METRICS, EVIDENCE, METRICS, find_metric, find_metrics
from mitate.errors import UsageError

FAMILIES = {
    "faithfulness",
    "localisation",
    "agreement",
    "randomisation",
    "robustness",
    "complexity",
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_what_is_known_of_every_metric(metric):
    assert metric.family in FAMILIES
    assert metric.better in ("higher", "lower")
    low, high = metric.range
    assert low < high
    assert not math.isinf(low)
    assert metric.summary.endswith(".")
    assert "arXiv:" in metric.cite or "doi:" in metric.cite
    assert metric.needs_masks == (metric.family == "localisation")
    assert metric.needs_segmentation == (metric.family == "agreement")
    assert metric.explains_again or metric.maps_asked(metric.options) == 0


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_function_takes_evidence_and_then_one_answer_a_row(metric):
    parameters = inspect.signature(metric.function).parameters.values()
    taken = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    rows = metric.rows(metric.options)
    assert list(metric.needs) == taken[: len(taken) - len(rows)]
    assert set(metric.needs) <= set(EVIDENCE)
    assert metric.curves == () or len(metric.curves) == len(rows)


def test_the_default_audit_has_twelve_metrics_of_every_question():
    assert len(set(DEFAULT_METRICS)) == 12
    families = {METRICS[name].family for name in DEFAULT_METRICS}
    assert families >= FAMILIES - {"robustness", "agreement"}


def test_finding_a_metric():
    assert find_metric("Early-Deletion") is METRICS["early_deletion"]
    assert find_metric("rank accuracy").name == "rank_accuracy"
    with pytest.raises(UsageError, match="did you mean deletion"):
        find_metric("delition")
    with pytest.raises(UsageError, match="there are .*pointing"):
        find_metric("zzz")


def test_options_come_from_the_function_and_from_what_it_asks():
    assert METRICS["deletion"].options == {"filling": "blur", "ranking": "pixels"}
    assert METRICS["infidelity"].options == {"samples": 64, "share": 0.06, "filling": "blur"}
    assert METRICS["pointing"].options == {"tolerance": 0.03}
    assert METRICS["pointing"].checked_options({"tolerance": 0}) == {"tolerance": 0}
    with pytest.raises(UsageError, match="filling of deletion takes a str, not 3"):
        METRICS["deletion"].checked_options({"filling": 3})


@pytest.mark.parametrize(
    ("metric", "option", "value"),
    [
        ("max_sensitivity", "samples", 0),
        ("max_sensitivity", "radius", float("nan")),
        ("infidelity", "samples", -1),
        ("faithfulness_correlation", "share", float("nan")),
        ("faithfulness_correlation", "share", 1.0),
        ("cascading_randomisation", "stages", 0),
        ("area", "threshold", -1.0),
        ("pointing", "tolerance", 2),
    ],
)
def test_values_that_no_metric_can_use_are_refused(metric, option, value):
    with pytest.raises(UsageError, match=f"the option {option} of {metric} is {value:g}: use"):
        METRICS[metric].checked_options({option: value})


def test_a_family_stands_for_its_metrics():
    localising = [name for name, one in METRICS.items() if one.family == "localisation"]
    assert find_metrics(["localisation"]) == localising
    assert find_metrics(["Deletion", "energy", "Localisation"]) == [
        "deletion",
        "energy",
        *(name for name in localising if name != "energy"),
    ]
    with pytest.raises(UsageError, match="localisation"):
        find_metrics(["localization"])
