"""What the page says of an audit: the leaderboard, curves, and the images where it is worst."""

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mitate.auditing.agreement import segmented
from mitate.auditing.audit import Audit
from mitate.auditing.comparison import FEWEST
from mitate.auditing.intervals import Interval
from mitate.auditing.leaderboard import Score, Standing, control_in_words
from mitate.auditing.reasons import Group, Spot
from mitate.auditing.subjects import Batch
from mitate.auditing.table import METRICS
from mitate.auditing.values import best_first, mean_of
from mitate.drawing.colour import COLORMAP, OPACITY, PREDICTED, TINT, heat, outlined
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation
from mitate.explain.targets import UNKNOWN
from mitate.jobs.explaining import Style
from mitate.jobs.gallery import HEAT_PIXELS, map_picture
from mitate.models.tasks import likelihood
from mitate.tensors import relative_to_maximum, resize_maps
from mitate.view.contents import (
    AuditPart,
    Case,
    Cell,
    GroupCard,
    LeaderRow,
    MetricHead,
    Report,
    SegmentationPart,
    SegmentedRow,
)
from mitate.view.curve import Chart, step_chart

WORST, QUIET = 8, 6
SHOWN_CURVES = {
    "deletion": "The class while the most relevant pixels are taken away",
    "insertion": "The class while the most relevant pixels are shown",
}
KINDS = {
    "method": "",
    "control": "control",
    "other class": "control: its map for another class",
    "shifted": "control: its map moved elsewhere",
}


def audit_report(audit: Audit, *, title: str = "", style: Style | None = None) -> Report:
    """The page of an audit.

    Args:
        audit: what came of it.
        title: of the page.
        style: how maps are drawn.
    """
    style = (style or Style()).checked()
    accuracy = audit.facts.accuracy
    return Report(
        title=title or f"Audit of {_network(audit)}",
        subtitle=audit.verdict.headline,
        facts=_facts(audit),
        accuracy=None if accuracy is None else accuracy.mean,
        class_names=audit.classifier.class_names,
        cases=tuple(_worst(audit, style, _pick(audit))),
        notices=(*audit.notices, *audit.failures),
        opacity=OPACITY if style.opacity is None else style.opacity,
        audit=audit_part(audit, style),
        gallery=_gallery_words(audit),
    )


def audit_part(audit: Audit, style: Style) -> AuditPart:
    """All that the page says beside the pictures."""
    pick = _pick(audit)
    rows = tuple(_row(audit, line, pick, audit.metrics) for line in audit.ranked())
    return AuditPart(
        grade=audit.verdict.grade,
        sentences=audit.verdict.sentences,
        advice=audit.verdict.advice,
        gate=tuple((one.requirement, one.met, one.found) for one in audit.gate),
        pick=_head(pick),
        metrics=tuple(_head(metric) for metric in audit.metrics),
        rows=rows,
        curves=tuple(_charts(audit)),
        groups=tuple(_groups(audit, style)),
        places=tuple(_places(audit, style)),
        confused=tuple(_confused(audit, style)),
        segmentation=_segmentation(audit, style),
    )


def _pick(audit: Audit) -> str:
    return str(audit.parameters["pick"])


def _network(audit: Audit) -> str:
    recipe = audit.classifier.recipe or {}
    return str(recipe.get("name") or type(audit.classifier.network).__name__)


def _facts(audit: Audit) -> tuple[tuple[str, str], ...]:
    course, height_width = audit.course, audit.classifier.preprocessing.size
    methods = sum(not line.is_control for line in audit.standings)
    return (
        ("images", f"{course.values.images} of {len(audit.subjects)}, in random order"),
        ("compared", f"{methods} maps, {len(audit.standings) - methods} controls"),
        ("metrics", str(len(audit.metrics))),
        ("input", f"{height_width[1]} px wide, {height_width[0]} px high"),
        ("cost", f"{course.forwards:,.0f} forwards"),
        ("seed", str(audit.parameters["seed"])),
        ("weights", f"SHA-256 {audit.parameters['weights_sha256'][:12]}…"),
        ("torch", torch.__version__),
    )


def _head(metric: str) -> MetricHead:
    found = METRICS[metric]
    return MetricHead(metric, _title(metric), found.better, found.summary)


def _title(metric: str) -> str:
    return metric.replace("_", " ")


def _row(audit: Audit, line: Standing, pick: str, metrics: Sequence[str]) -> LeaderRow:
    chosen = audit.recommendation
    empty = (f"{line.empty} empty maps",) if line.empty else ()
    return LeaderRow(
        method=line.method,
        layer=line.layer,
        kind=KINDS[line.kind],
        control=line.is_control,
        images=line.images_with(pick),
        cost=line.cost,
        recommended=chosen is not None and chosen.name == line.name,
        trusted=chosen is not None and chosen.trusted,
        badges=(*line.badges, *empty),
        picked=_cell(line.scores.get(pick)),
        cells=tuple(_cell(line.scores.get(metric)) for metric in metrics),
    )


def _cell(score: Score | None) -> Cell:
    if score is None:
        return Cell(float("nan"), float("nan"), float("nan"))
    value = score.value
    floor = f"best control: {control_in_words(score.control)} {score.floor:.3f}"
    beside = floor if score.control and isfinite(score.floor) else ""
    return Cell(value.mean, value.low, value.high, score.beaten, score.words, beside)


def _charts(audit: Audit) -> Iterator[Chart]:
    drawn = _drawn(audit)
    for curve, title in SHOWN_CURVES.items():
        lines = {line.title: audit.values.curve(line.name, curve).tolist() for line in drawn}
        lines = {name: values for name, values in lines.items() if values}
        if lines:
            yield step_chart(title, audit.values.fractions[curve].tolist(), lines)


def _drawn(audit: Audit) -> list[Standing]:
    """The recommended map, the familiar one, and the control that comes nearest."""
    pick = _pick(audit)
    higher = METRICS[pick].better == "higher"
    means = {
        line.name: mean_of(audit.values.of(line.name, pick))
        for line in audit.standings
        if line.is_control
    }
    controls = best_first({n: mean for n, mean in means.items() if isfinite(mean)}, higher)
    familiar = next((line.name for line in audit.standings if line.method == "gradcam"), None)
    named = [audit.recommendation.name if audit.recommendation else None, familiar, *controls[:1]]
    return [audit.standing(name) for name in dict.fromkeys(named) if name is not None]


def _groups(audit: Audit, style: Style) -> Iterator[GroupCard]:
    """All groups that were found, and the first of the quiet ones."""
    if audit.reasons is None:
        return
    quiet = [group for group in audit.reasons.groups if group.suspicion == "quiet"]
    for group in (*audit.reasons.found, *quiet[:QUIET]):
        if (card := group_card(group, style)) is not None:
            yield card


def group_card(group: Group, style: Style) -> GroupCard | None:
    """A group as the page shows it; None where its picture cannot be told."""
    if group.picture is None:
        return None
    return GroupCard(
        words=group.words,
        why=group.why,
        found=group.suspicion == "found",
        images=len(group.members),
        name=Path(group.medoid_name).name,
        picture=group.picture,
        heat=_coloured(group.heat, group.picture, style),
    )


def _places(audit: Audit, style: Style) -> Iterator[GroupCard]:
    for spot in audit.reasons.unseen if audit.reasons else ():
        if (card := spot_card(spot, style)) is not None:
            yield card


def spot_card(spot: Spot, style: Style) -> GroupCard | None:
    """A place as the page shows it, outlined; None where its picture cannot be told."""
    if spot.picture is None or spot.heat is None:
        return None
    return GroupCard(
        words=spot.words,
        why=spot.why,
        found=spot.suspicion == "found",
        images=len(spot.members),
        name=Path(spot.names[0]).name,
        picture=outlined(spot.picture, spot.region.astype(np.float32)),
        heat=_coloured(spot.heat, spot.picture, style),
    )


def _confused(audit: Audit, style: Style) -> Iterator[GroupCard]:
    for pair in audit.confused:
        if pair.picture is not None:
            yield GroupCard(
                words=pair.words,
                why="",
                found=False,
                images=len(pair.members),
                name=Path(pair.names[0]).name,
                picture=pair.picture,
                heat=_coloured(pair.heat, pair.picture, style),
            )


def _coloured(values: np.ndarray, picture: Image.Image, style: Style) -> Image.Image:
    """A map in colours, of a picture's shape."""
    shrink = HEAT_PIXELS / max(picture.size)
    width, height = (max(1, round(side * shrink)) for side in picture.size)
    maps = torch.from_numpy(np.nan_to_num(values)).float()[None, None]
    resized = resize_maps(relative_to_maximum(maps), (height, width), style.resize)[0, 0]
    return Image.fromarray(heat(resized.numpy(), style.colormap or COLORMAP))


def _segmentation(audit: Audit, style: Style) -> SegmentationPart | None:
    """How much of each map lies on what the classifier segments, beside the true region's share."""
    drawn = audit.segmentation
    if drawn is None:
        return None
    agreement = [metric for metric in audit.metrics if METRICS[metric].needs_segmentation]
    beside = (*(metric for metric in audit.metrics if metric == "energy"), *agreement[1:])
    return SegmentationPart(
        area=drawn.area.mean,
        true_area=drawn.true_area.mean,
        empty=drawn.empty,
        broken=drawn.broken,
        metric=_head(agreement[0]),
        beside=tuple(_head(metric) for metric in beside),
        rows=tuple(_row(audit, line, agreement[0], beside) for line in audit.ranked()),
        cases=tuple(_worst(audit, style, agreement[0])),
        classes=tuple(
            SegmentedRow(
                name=one.name,
                images=one.images,
                drawn=one.area.images,
                area=one.area.mean,
                energy=_plain_cell(one.energy),
                difference=_plain_cell(one.difference),
            )
            for one in audit.segmented_by_class()
        ),
    )


def _plain_cell(value: Interval) -> Cell:
    """A mean, whose interval is told of enough images only."""
    if value.images < FEWEST:
        return Cell(value.mean, float("nan"), float("nan"))
    return Cell(value.mean, value.low, value.high)


def _gallery_words(audit: Audit) -> tuple[str, str]:
    return (
        "Where the map is worst",
        f"The images on which the recommended map does worst in {_title(_pick(audit))}, beside the "
        "familiar one. "
        f"{outlines(audit)}Choose a picture to enlarge it.",
    )


def outlines(audit: Audit) -> str:
    """What the lines on the pictures are."""
    true = "The true region is outlined in blue. " if audit.subjects.masked else ""
    predicted = "What the classifier segments is outlined in green. " if audit.segmentation else ""
    return true + predicted


def _worst(audit: Audit, style: Style, metric: str) -> Iterator[Case]:
    """The images whose recommended map does worst in a metric, beside the familiar one."""
    chosen, explainer = audit.recommendation, audit.explainer
    if chosen is None or explainer is None:
        return
    values = audit.values.of(chosen.name, metric)
    known = np.flatnonzero(np.isfinite(values))
    ascending = known[np.argsort(values[known], kind="stable")]
    higher = METRICS[metric].better == "higher"
    places = [int(place) for place in (ascending if higher else ascending[::-1])[:WORST]]
    if not places:
        return
    familiar = next((one for one in audit.entrants if one.method == "gradcam"), None)
    beside = [familiar.explainer] if familiar and familiar.name != chosen.name else []
    batch = audit.subjects.open(places)
    explanations = _explained(audit, [explainer, *beside], batch.inputs, places)
    drawn = list(_regions(audit, batch, places))
    for index, place in enumerate(places):
        each = [explanation[index] for explanation in explanations]
        lines = [(region[index], *line) for region, *line in drawn]
        yield _case(audit, place, each, lines, style, f"{_title(metric)} {values[place]:.3f}")


def _explained(
    audit: Audit, explainers: Sequence[Explainer], inputs: Tensor, places: Sequence[int]
) -> list[Explanation]:
    classes = torch.from_numpy(audit.classes[list(places)])
    return [explainer(inputs, targets=classes) for explainer in explainers]


def _regions(
    audit: Audit, batch: Batch, places: Sequence[int]
) -> Iterator[tuple[np.ndarray, str, int]]:
    """What is true and what is segmented: shares (b, H, W), the line's colour and its distance."""
    if batch.masks is not None:
        yield batch.masks.cpu().numpy(), TINT, 0
    if audit.segmentation is not None:
        classes = torch.from_numpy(audit.classes[list(places)])
        found = segmented(audit.classifier, batch.inputs, classes)
        yield found.nan_to_num(0).cpu().numpy(), PREDICTED, 1


def _case(
    audit: Audit,
    place: int,
    explanations: Sequence[Explanation],
    lines: Sequence[tuple[np.ndarray, str, int]],
    style: Style,
    told: str,
) -> Case:
    names, label = audit.classifier.class_names, audit.subjects.labels[place]
    likely = likelihood(audit.classifier.task, explanations[0].logits)[0]
    picture = explanations[0].shown()[0]
    marked = picture
    for region, colour, away in lines:
        marked = outlined(marked, region, colour=colour, away=away)
    return Case(
        name=f"{audit.subjects.names[place]} · {told}",
        picture=marked,
        true=None if label == UNKNOWN else names[label],
        predicted=names[audit.predicted[place]],
        probability=float(likely[audit.predicted[place]]),
        maps=tuple(map_picture(one, 0, picture, style) for one in explanations),
    )
