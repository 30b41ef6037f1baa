"""The report of a classifier on a data set: scores, galleries, and where the maps lie."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mitate.auditing.comparison import Comparison, mask_batch
from mitate.data.masks import Masks
from mitate.data.records import Record
from mitate.data.wording import counted
from mitate.drawing.colour import OPACITY, heat
from mitate.errors import ImageError, UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation, default_colormap
from mitate.jobs.explaining import UNMARKED, Style, controls_beside, explainers_of
from mitate.jobs.photos import Shot, names_from, open_shots, with_known_labels
from mitate.models.classifier import Classifier
from mitate.models.tasks import likelihood
from mitate.progress import Advance, progress
from mitate.training.scores import Scores, score
from mitate.view.contents import Case, EnergyRow, MapPicture, Report

BATCH = 16
HEAT_PIXELS = 160
PAGES = (".html", ".htm")


@dataclass(frozen=True)
class Predicted:
    """One photo with its probabilities."""

    record: Record
    name: str
    probabilities: np.ndarray

    @property
    def best(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())


def build_report(
    classifier: Classifier,
    records: Sequence[Record],
    *,
    methods: Sequence[str] = ("gradcam",),
    options: Mapping[str, Any] | None = None,
    right: int = 3,
    wrong: int = 6,
    masks: Masks | None = None,
    mask_value: int | None = None,
    region: str = "the marked region",
    style: Style | None = None,
    title: str = "",
    notices: Sequence[str] = (),
    root: Path | None = None,
    shown: bool = True,
    **settings: Any,
) -> tuple[Report, list[str]]:
    """Predict every photo, explain a choice of them; give the report and what could not be read.

    Args:
        classifier: what is reported on.
        records: the photos; a label that is no class of the classifier counts as unknown.
        methods: the maps in the gallery.
        options: each goes to the methods that have it.
        right: right predictions a class in the gallery, from the most to the least certain.
        wrong: wrong predictions a class, the most certain first.
        masks: true regions; with them the share of each map's energy on them is measured.
        mask_value: the value of index masks that marks the region.
        region: what the masks mark, in words.
        style: how maps are drawn.
        title: of the report.
        notices: what should be known about the data.
        root: the folder that names of photos start from; None calls them as briefly as can be.
        shown: show progress.
        **settings: of ``Explainer``, as for ``explain_photos``.

    Raises:
        ImageError: none of the photos can be read; UsageError: a method, layer, option, colormap
        or number that cannot be used.
    """
    if min(right, wrong) < 0:
        raise UsageError(f"right {right} and wrong {wrong}: use 0 or more photos a class")
    if classifier.task == "regression":
        raise UsageError(
            "a report counts right and wrong classes, and this network gives values: see its maps "
            "with `mitate explain`"
        )
    style = (style or Style()).checked()
    explainers = explainers_of(classifier, methods, options or {}, **settings)
    names = classifier.class_names
    known = with_known_labels(records, names)
    predicted, failures = _predict(classifier, _named(known, root), shown)
    if not predicted:
        raise ImageError(f"none of the {len(records)} photos can be read: {failures[0]}")
    chosen = _chosen(predicted, names, right, wrong)
    with progress("explaining the gallery", len(chosen), shown=shown) as advance:
        cases = tuple(
            case for part in _parts(chosen) for case in _cases(explainers, part, style, advance)
        )
    energy: tuple[EnergyRow, ...] = ()
    marked = None
    if masks is not None:
        everyone = [*explainers, *controls_beside(explainers, **settings)]
        judged = [p.record for p in predicted]
        comparison, missed = measure(everyone, judged, masks, mask_value, shown=shown)
        energy = tuple(_energy_rows(comparison))
        area = comparison.area()
        marked = (area.images, area.mean) if energy else None
        failures += missed
        notices = notices if energy else (*notices, UNMARKED)
    report = Report(
        title=title or f"{_architecture(classifier)} on {counted(len(predicted), 'photo')}",
        subtitle=_subtitle(cases),
        facts=_facts(classifier, len(predicted)),
        class_names=names,
        cases=cases,
        energy=energy,
        marked=marked,
        curve=_curve(classifier),
        notices=(*notices, *failures),
        region=region,
        opacity=OPACITY if style.opacity is None else style.opacity,
        **_scored(_scores(predicted, names)),
    )
    return report, failures


def measure(
    explainers: Sequence[Explainer],
    records: Sequence[Record],
    masks: Masks,
    mask_value: int | None,
    *,
    shown: bool = True,
) -> tuple[Comparison, list[str]]:
    """Where the maps of the predicted class lie on every photo whose mask is not empty."""
    classifier = explainers[0].classifier
    comparison, failures = Comparison(), list[str]()
    with progress("measuring where the maps lie", len(records), shown=shown) as advance:
        for part in _parts(_named(records)):
            opened = _opened(classifier, part, failures, masks, mask_value)
            shots = [shot for shot in opened if shot.mask is not None and shot.mask.any()]
            if shots:
                photos, names = [shot.photo for shot in shots], [shot.name for shot in shots]
                done = [explainer(photos, top_k=1, names=names) for explainer in explainers]
                comparison.add(done, mask_batch([s.mask for s in shots if s.mask is not None]))
            advance(len(part))
    return comparison, failures


def report_path(path: Path) -> Path:
    """Where a report goes: the page that is named, or report.html in the folder that is."""
    return path if path.suffix.lower() in PAGES and not path.is_dir() else path / "report.html"


def _named(records: Sequence[Record], root: Path | None = None) -> list[tuple[Record, str]]:
    return list(zip(records, names_from(root, [r.path for r in records]), strict=True))


def _parts(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def _opened(
    classifier: Classifier,
    named: Sequence[tuple[Record, str]],
    failures: list[str],
    masks: Masks | None = None,
    mask_value: int | None = None,
) -> list[Shot]:
    shots = open_shots(
        named,
        masks,
        mask_value=mask_value,
        preprocessing=classifier.preprocessing,
        failures=failures,
    )
    return [shot for shot in shots if shot is not None]


def _predict(
    classifier: Classifier, named: Sequence[tuple[Record, str]], shown: bool
) -> tuple[list[Predicted], list[str]]:
    predicted: list[Predicted] = []
    failures: list[str] = []
    with progress("predicting", len(named), shown=shown) as advance:
        for part in _parts(named):
            if shots := _opened(classifier, part, failures):
                inputs = classifier.inputs([shot.photo for shot in shots])
                likely = likelihood(classifier.task, classifier.logits(inputs))
                rows = likely.float().cpu().numpy()
                predicted += [
                    Predicted(shot.record, shot.name, row)
                    for shot, row in zip(shots, rows, strict=True)
                ]
            advance(len(part))
    return predicted, failures


def _scores(predicted: Sequence[Predicted], names: Sequence[str]) -> Scores | None:
    index = {name: number for number, name in enumerate(names)}
    known = [(index[p.record.label], p.best) for p in predicted if p.record.label is not None]
    return score([true for true, _ in known], [best for _, best in known], names) if known else None


def _scored(scores: Scores | None) -> dict[str, Any]:
    if scores is None:
        return {}
    return {name: value for name, value in vars(scores).items() if name != "segmentation"}


def _chosen(
    predicted: Sequence[Predicted], names: Sequence[str], right: int, wrong: int
) -> list[Predicted]:
    """For each true class some of its right photos, spread by certainty, and its surest errors."""
    chosen: list[Predicted] = []
    for name in (*names, None):
        mine = [p for p in predicted if p.record.label == name]
        certain = sorted(mine, key=lambda p: -float(p.probabilities.max()))
        fine = [p for p in certain if name in (None, names[p.best])]
        errors = [p for p in certain if name not in (None, names[p.best])]
        places = np.linspace(0, len(fine) - 1, min(right, len(fine))).round().astype(int)
        chosen += [fine[place] for place in places] + errors[:wrong]
    return chosen


def _cases(
    explainers: Sequence[Explainer], part: Sequence[Predicted], style: Style, advance: Advance
) -> Iterator[Case]:
    """Cases with maps of the predicted class and, where that is wrong, of the true one."""
    classifier = explainers[0].classifier
    names = classifier.class_names
    shots = _opened(classifier, [(p.record, p.name) for p in part], [])
    there = {shot.record for shot in shots}  # a photo may have gone since it was predicted
    kept = [p for p in part if p.record in there]
    if kept:
        photos, targets = [shot.photo for shot in shots], [_targets(p, names) for p in kept]
        done = [explainer(photos, targets=targets) for explainer in explainers]
        for index, photo in enumerate(kept):
            yield _case(photo, [explanation[index] for explanation in done], names, style)
    advance(len(part))


def _targets(predicted: Predicted, names: Sequence[str]) -> list[int]:
    """The predicted class and another: the true one, or else the second most probable."""
    order = predicted.probabilities.argsort()[::-1]
    label = predicted.record.label
    true = predicted.best if label is None else names.index(label)
    return [predicted.best, true if true != predicted.best else int(order[:2][-1])]


def _case(
    predicted: Predicted, explanations: Sequence[Explanation], names: Sequence[str], style: Style
) -> Case:
    picture = explanations[0].shown()[0]
    right = predicted.record.label in (None, names[predicted.best])
    return Case(
        name=predicted.name,
        picture=picture,
        true=predicted.record.label,
        predicted=names[predicted.best],
        probability=float(predicted.probabilities.max()),
        maps=tuple(
            map_picture(explanation, target, picture, style)
            for explanation in explanations
            for target in range(1 if right else explanation.classes.shape[1])
        ),
    )


def map_picture(
    explanation: Explanation, target: int, picture: Image.Image, style: Style
) -> MapPicture:
    """One map in colours, for the page."""
    shrink = HEAT_PIXELS / max(picture.size)
    width, height = (max(1, round(side * shrink)) for side in picture.size)
    flag = explanation.flag_of(0, target)
    signed = explanation.signed
    values = explanation.heat(0, target, (width, height), style.resize)
    colormap = default_colormap(style.colormap, signed)
    return MapPicture(
        method=explanation.method,
        layer=explanation.layer,
        class_name=explanation.name_of(0, target),
        probability=float(explanation.probabilities[0, target]),
        heat=Image.fromarray(heat(values, colormap, signed=signed)),
        flag=f"{flag.kind}: {flag.reason}" if flag else "",
    )


def _energy_rows(comparison: Comparison) -> Iterator[EnergyRow]:
    for place in comparison.places():
        energy = place.energy
        yield EnergyRow(
            method=place.method,
            layer=place.layer,
            share=energy.mean,
            low=energy.low,
            high=energy.high,
            control=place.control,
            verdict=place.verdict,
            left_out=energy.missing,
        )


def _architecture(classifier: Classifier) -> str:
    recipe = classifier.recipe or {}
    return str(recipe.get("name") or type(classifier.network).__name__)


def _subtitle(cases: Sequence[Case]) -> str:
    methods = dict.fromkeys(made.method for case in cases for made in case.maps)
    layers = dict.fromkeys(made.layer for case in cases for made in case.maps)
    return f"Maps by {', '.join(methods)} at layer {', '.join(layers)}" if methods else ""


def _facts(classifier: Classifier, photos: int) -> tuple[tuple[str, str], ...]:
    height, width = classifier.preprocessing.size
    weights = sum(parameter.numel() for parameter in classifier.network.parameters())
    return (
        ("network", f"{_architecture(classifier)}, {weights / 1e6:.1f} million weights"),
        ("classes", str(len(classifier.class_names))),
        ("input", f"{width} px wide, {height} px high, {classifier.preprocessing.resize}"),
        *_training_facts(classifier.provenance.get("training") or {}),
        ("reported on", counted(photos, "photo")),
        ("torch", torch.__version__),
    )


def _training_facts(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not training:
        return
    images, epochs, history = (training.get(key) for key in ("images", "epochs", "history"))
    yield "trained on", f"{training.get('data')}: {(images or {}).get('train')} photos"
    yield "started from", "pretrained weights" if training.get("pretrained") else "scratch"
    run = len(history or ())
    yield "epochs", f"{run} of {epochs}" if run and run != epochs else str(epochs)
    yield "learning rate", f"{_number(training.get('lr')):.2g}"
    yield "training time", f"{_number(training.get('seconds')) / 60:.1f} min"


def _curve(classifier: Classifier) -> tuple[tuple[int, float, float, float], ...]:
    training = classifier.provenance.get("training") or {}
    return tuple(
        (
            row["epoch"],
            _number(row["train_loss"]),
            _number(row["valid_loss"]),
            _number(row["accuracy"]),
        )
        for row in training.get("history", ())
    )


def _number(stored: float | None) -> float:
    """A number out of JSON, which writes what is no number as null."""
    return float("nan") if stored is None else float(stored)
