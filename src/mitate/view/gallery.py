"""The report of a classifier on a data set: scores, galleries of right and wrong, where maps lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mitate.audit.comparison import CONTROLS, Comparison, mask_batch
from mitate.data.masks import MaskIndex
from mitate.data.records import Record
from mitate.drawing.colour import heat
from mitate.errors import ImageError
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation
from mitate.models.classifier import Classifier
from mitate.progress import progress
from mitate.training.scores import Scores, score
from mitate.view.contents import Case, ClassScores, EnergyRow, MapPicture, Report
from mitate.view.photos import Shot, open_shot

BATCH = 16
HEAT_PIXELS = 160


@dataclass(frozen=True)
class Predicted:
    """One photo with its probabilities."""

    record: Record
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
    layer: str = "auto",
    right: int = 3,
    wrong: int = 6,
    masks: MaskIndex | None = None,
    mask_value: int | None = None,
    region: str = "the marked region",
    title: str = "",
    notices: Sequence[str] = (),
    shown: bool = True,
) -> tuple[Report, list[str]]:
    """Predict every photo, explain a choice of them; give the report and what could not be read.

    Args:
        classifier: what is reported on.
        records: the photos.
        methods: the maps in the gallery.
        layer: where they are made.
        right: right predictions a class in the gallery, the least certain among them.
        wrong: wrong predictions a class, the most certain first.
        masks: true regions; with them the share of each map's energy on them is measured.
        mask_value: the value of index masks that marks the region.
        region: what the masks mark, in words.
        title: of the report.
        notices: what should be known about the data.
        shown: show progress.
    """
    predicted, failures = _predict(classifier, records, shown)
    names = classifier.class_names
    explainers = [Explainer(classifier, method, layer) for method in methods]
    chosen = _chosen(predicted, names, right, wrong)
    with progress("explaining the gallery", len(chosen), shown=shown) as advance:
        cases = [case for part in _parts(chosen) for case in _cases(explainers, part, advance)]
    energy = ()
    if masks is not None:
        energy, missed = _energy(classifier, explainers, predicted, masks, mask_value, layer, shown)
        failures += missed
    known = [p for p in predicted if p.record.label in names]
    scores = (
        score([names.index(p.record.label or "") for p in known], [p.best for p in known], names)
        if known
        else None
    )
    report = Report(
        title=title or f"{_architecture(classifier)} on {len(predicted)} photos",
        subtitle=_subtitle(methods, explainers),
        facts=_facts(classifier, len(predicted)),
        class_names=names,
        cases=tuple(cases),
        energy=energy,
        curve=_curve(classifier),
        notices=(*notices, *failures),
        region=region,
        **_scored(scores),
    )
    return report, failures


def _scored(scores: Scores | None) -> dict[str, Any]:
    if scores is None:
        return {}
    return {
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "classes": tuple(ClassScores(**vars(s)) for s in scores.classes),
        "confusion": scores.confusion,
    }


def _predict(
    classifier: Classifier, records: Sequence[Record], shown: bool
) -> tuple[list[Predicted], list[str]]:
    predicted: list[Predicted] = []
    failures: list[str] = []
    with progress("predicting", len(records), shown=shown) as advance:
        for part in _parts(records):
            shots = _opened(classifier, part, failures)
            if shots:
                inputs = classifier.inputs([shot.photo for shot in shots])
                rows = classifier.logits(inputs).softmax(-1).float().cpu().numpy()
                predicted += [Predicted(s.record, row) for s, row in zip(shots, rows, strict=True)]
            advance(len(part))
    return predicted, failures


def _opened(
    classifier: Classifier,
    records: Sequence[Record],
    failures: list[str],
    masks: MaskIndex | None = None,
    mask_value: int | None = None,
) -> list[Shot]:
    shots = []
    for record in records:
        try:
            shots.append(
                open_shot(
                    record, masks, mask_value=mask_value, preprocessing=classifier.preprocessing
                )
            )
        except ImageError as exc:
            failures.append(str(exc))
    return shots


def _chosen(
    predicted: Sequence[Predicted], names: Sequence[str], right: int, wrong: int
) -> list[Predicted]:
    """For each true class its most certain errors, and of its right ones the least certain and others."""
    chosen: list[Predicted] = []
    for name in (*names, None):
        mine = [p for p in predicted if p.record.label == name]
        certain = sorted(mine, key=lambda p: -float(p.probabilities.max()))
        errors = [p for p in certain if name is not None and names[p.best] != name]
        fine = [p for p in certain if name is None or names[p.best] == name]
        places = np.linspace(0, len(fine) - 1, min(right, len(fine))).round().astype(int)
        chosen += [fine[place] for place in places] + errors[:wrong]
    return chosen


def _parts(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def _cases(explainers: Sequence[Explainer], part: Sequence[Predicted], advance: Any) -> list[Case]:
    """Cases with maps of the predicted class and, where that is wrong, of the true one."""
    classifier = explainers[0].classifier
    shots = _opened(classifier, [p.record for p in part], [])
    targets = [_targets(p, classifier.class_names) for p in part]
    done = [
        explainer([shot.photo for shot in shots], targets=targets, names=[s.name for s in shots])
        for explainer in explainers
    ]
    advance(len(part))
    return [
        _case(p, [explanation[i] for explanation in done], classifier.class_names)
        for i, p in enumerate(part)
    ]


def _targets(predicted: Predicted, names: Sequence[str]) -> list[int]:
    """The predicted class and another: the true one, or else the second most probable."""
    order = predicted.probabilities.argsort()[::-1]
    label = predicted.record.label
    true = names.index(label) if label in names else predicted.best
    return [predicted.best, true if true != predicted.best else int(order[1])]


def _case(predicted: Predicted, explanations: Sequence[Explanation], names: Sequence[str]) -> Case:
    first = explanations[0]
    picture = first.shown()[0]
    right = predicted.record.label in (None, names[predicted.best])
    return Case(
        name=predicted.record.path.name,
        picture=picture,
        true=predicted.record.label,
        predicted=names[predicted.best],
        probability=float(predicted.probabilities.max()),
        maps=tuple(
            _map_picture(explanation, target, picture)
            for explanation in explanations
            for target in range(1 if right else explanation.classes.shape[1])
        ),
    )


def _map_picture(explanation: Explanation, target: int, picture: Image.Image) -> MapPicture:
    shrink = HEAT_PIXELS / max(picture.size)
    size = tuple(max(1, round(side * shrink)) for side in picture.size)
    flag = explanation.flag_of(0, target)
    return MapPicture(
        method=explanation.method,
        layer=explanation.layer,
        class_name=explanation.name_of(0, target),
        probability=float(explanation.probabilities[0, target]),
        heat=Image.fromarray(heat(explanation.heat(0, target, (size[0], size[1])))),
        flag=f"{flag.kind}: {flag.reason}" if flag else "",
    )


def _energy(
    classifier: Classifier,
    explainers: Sequence[Explainer],
    predicted: Sequence[Predicted],
    masks: MaskIndex,
    mask_value: int | None,
    layer: str,
    shown: bool,
) -> tuple[tuple[EnergyRow, ...], list[str]]:
    methods = {explainer.method.name for explainer in explainers}
    everyone = [
        *explainers,
        *(Explainer(classifier, name, layer) for name in CONTROLS if name not in methods),
    ]
    comparison, failures = measure(
        everyone, [p.record for p in predicted], masks, mask_value, shown=shown
    )
    rows = tuple(
        EnergyRow(
            place.method,
            place.layer,
            place.energy.mean,
            place.energy.low,
            place.energy.high,
            place.control,
            place.verdict,
        )
        for place in comparison.places()
    )
    return rows, failures


def measure(
    explainers: Sequence[Explainer],
    records: Sequence[Record],
    masks: MaskIndex,
    mask_value: int | None,
    *,
    shown: bool = True,
) -> tuple[Comparison, list[str]]:
    """Where the maps of the predicted class lie on every photo that has a mask with anything in it."""
    classifier = explainers[0].classifier
    comparison, failures = Comparison(), list[str]()
    marked = [record for record in records if masks.find(record.path) is not None]
    with progress("measuring where the maps lie", len(marked), shown=shown) as advance:
        for part in _parts(marked):
            opened = _opened(classifier, part, failures, masks, mask_value)
            shots = [shot for shot in opened if shot.mask is not None and shot.mask.any()]
            advance(len(part))
            if not shots:
                continue
            photos, names = [shot.photo for shot in shots], [shot.name for shot in shots]
            done = [explainer(photos, top_k=1, names=names) for explainer in explainers]
            comparison.add(done, mask_batch([s.mask for s in shots if s.mask is not None]))
    return comparison, failures


def _architecture(classifier: Classifier) -> str:
    recipe = classifier.recipe or {}
    return str(recipe.get("name") or type(classifier.network).__name__)


def _subtitle(methods: Sequence[str], explainers: Sequence[Explainer]) -> str:
    layers = {explainer.layer if isinstance(explainer.layer, str) else "" for explainer in explainers}
    return f"Maps by {', '.join(methods)} at layer {', '.join(sorted(layers))}"


def _facts(classifier: Classifier, photos: int) -> tuple[tuple[str, str], ...]:
    training = classifier.provenance.get("training") or {}
    height, width = classifier.preprocessing.size
    weights = sum(parameter.numel() for parameter in classifier.network.parameters())
    facts = [
        ("network", f"{_architecture(classifier)}, {weights / 1e6:.1f} million weights"),
        ("classes", str(len(classifier.class_names))),
        ("input", f"{width} x {height} px, {classifier.preprocessing.resize}"),
    ]
    if training:
        images = training.get("images", {})
        facts += [
            ("trained on", f"{training.get('data')}: {images.get('train')} photos"),
            ("started from", "pretrained weights" if training.get("pretrained") else "scratch"),
            ("epochs", str(training.get("epochs"))),
            ("learning rate", f"{training.get('lr', float('nan')):.2g}"),
            ("training time", f"{training.get('seconds', 0) / 60:.1f} min"),
        ]
    facts.append(("reported on", f"{photos} photos"))
    facts.append(("torch", torch.__version__))
    return tuple(facts)


def _curve(classifier: Classifier) -> tuple[tuple[int, float, float, float], ...]:
    training = classifier.provenance.get("training") or {}
    return tuple(
        (row["epoch"], row["train_loss"], row["valid_loss"], row["accuracy"])
        for row in training.get("history", ())
    )


def report_path(folder: Path) -> Path:
    """Where a report goes when a folder is named."""
    return folder if folder.suffix == ".html" else folder / "report.html"


