"""The audit of a classifier on photos: what `mitate audit` does, and `mitate.audit` in Python."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mitate.auditing.audit import Audit, audit_images, with_reasons
from mitate.auditing.files import write_audit
from mitate.auditing.reasons import confused_pairs, find_reasons
from mitate.auditing.subjects import Batch, Subjects, subjects_of
from mitate.data.masks import Masks
from mitate.data.records import Record
from mitate.errors import ImageError, MissingExtraError, UsageError
from mitate.explain.explainer import as_classifier
from mitate.explain.inputs import Images, prepare
from mitate.explain.targets import UNKNOWN, Labels, label_indices
from mitate.models.classifier import Classifier
from mitate.progress import progress
from mitate.tensors import digest_of
from mitate.view.audited import audit_report
from mitate.view.photos import (
    Shot,
    evenly,
    folder_of,
    open_masks,
    open_shot,
    reported,
    shown_names,
    with_known_labels,
)
from mitate.view.report import write_report
from mitate.view.sampling import sample, shows_region

PARTS, PAGE = "parts", "report.html"
LIMIT, REASONS = 64, 256
Values = tuple[int | None, int | None]


def audit(
    model: Any,
    data: str | Path | Images,
    *,
    masks: str | Path | Masks | Tensor | None = None,
    mask_value: int | None = None,
    object_value: int | None = None,
    labels: Labels | None = None,
    split: str | None = None,
    limit: int | None = LIMIT,
    reasons: int | None = REASONS,
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    audited: str = "label",
    pick: str | None = None,
    budget: str | float | None = None,
    require: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    out: str | Path | None = None,
    title: str = "",
    tell: Callable[[str], None] = lambda words: None,
    shown: bool = False,
) -> Audit:
    """Tell which map is true of a classifier, and whether it looks at the right place.

    Every method at every layer is measured on the same images, beside controls that must not be as
    good; one is recommended, and the verdict tells a wrong map from a wrong classifier.

    Args:
        model: a Classifier, a reference to one, a fastai Learner or a plain module.
        data: a folder of photos or a data set, of which the validation part is taken where it has
            splits; or photos, their paths, or one batch of preprocessed tensors (b, channels, H,
            W).
        masks: true regions: a folder or CSV of them for photos on disk; for tensors (b, H, W).
            Without them there is no localisation and no reliance.
        mask_value: the value of index masks that marks the region.
        object_value: the value of index masks that marks the object around it: what hiding the
            region does is then compared with hiding as much elsewhere in the object.
        labels: true classes of images that are given, None where unknown; of a data set they are
            known. The true class is audited where it is known, and otherwise the predicted one.
        split: another split of the data set.
        limit: only so many images, evenly chosen, but three quarters of them such as have a mask
            that shows something, if there are so many; None takes all.
        reasons: in so many images wrong reasons are looked for, by the recommended map; None takes
            all, 0 none.
        methods: names; None takes six at the layer that ``auto`` takes, and two of them at earlier
            ones.
        layers: names, ``auto`` or ``earlier``: each method at each of them.
        metrics: names, or families of them such as ``faithfulness``; None takes
            ``DEFAULT_METRICS``, and ``agreement`` where the classifier was trained with masks and
            segments by itself.
        audited: ``label``, or ``predicted`` to audit the predicted class throughout.
        pick: the metric that recommends; None takes energy where there are masks, and otherwise
            early deletion.
        budget: at most so many forwards (50000, "200k") or so much time ("10min"), spent on the
            better contenders by successive halving.
        require: thresholds, such as ``energy>=0.5`` or ``deletion better than control``.
        options: of the metrics.
        seed: of all that is random.
        batch_size: images, or altered images, in one forward; None as ``Explainer`` has it.
        out: a folder for report.html, audit.csv and audit.json. An audit that was interrupted goes
            on from what lies there.
        title: of the report.
        tell: told the estimate before it starts.
        shown: show progress.

    Raises:
        UsageError: anything that cannot be audited; DataError: data or masks that cannot be used;
        ImageError: none of the photos can be read.
    """
    if reasons is not None and reasons < 0:
        raise UsageError(f"reasons is {reasons}: use 0 for none, or more images")
    classifier = as_classifier(model)
    folder = None if out is None else Path(out)
    values = (mask_value, object_value)
    given = _given(classifier, data, masks, values, labels, split, limit, shown)
    done = audit_images(
        classifier,
        given.subjects,
        methods=methods,
        layers=layers,
        metrics=metrics,
        audited=audited,
        pick=pick,
        budget=budget,
        require=require,
        options=options,
        seed=seed,
        batch_size=batch_size,
        folder=None if folder is None else folder / PARTS,
        tell=tell,
        shown=shown,
    )
    done = replace(done, failures=given.failures, notices=(*given.notices, *done.notices))
    if reasons != 0:
        done = _with_reasons(done, given, reasons, mask_value, shown)
    if folder is not None:
        write_report(audit_report(done, title=title), folder / PAGE)
        write_audit(done, folder)
    return done


@dataclass(frozen=True)
class Given:
    """What is audited, photos that cannot be read, and what the reader has to tell.

    ``photos`` and ``masks`` are all that there is to look for wrong reasons in, and ``root`` is
    where photos on disk are.
    """

    subjects: Subjects
    photos: Sequence[Record] | Tensor
    masks: Masks | Tensor | None
    labels: Labels | None = None
    root: Path | None = None
    failures: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def _with_reasons(
    audit: Audit, given: Given, limit: int | None, mask_value: int | None, shown: bool
) -> Audit:
    """The audit with the groups that are decided alike, and the pairs that are confused."""
    if audit.explainer is None:
        return audit
    photos, labels, masks = given.photos, given.labels, given.masks
    places = evenly(range(len(photos)), limit)
    if isinstance(photos, Tensor):
        photos = photos[places]
        labels = None if labels is None else [labels[place] for place in places]
        masks = masks[places] if isinstance(masks, Tensor) else None
    else:
        photos = [photos[place] for place in places]
    settings = {
        "labels": labels,
        "masks": masks if audit.subjects.masked else None,
        "mask_value": mask_value,
        "root": given.root,
        "batch_size": audit.parameters["batch_size"],
        "shown": shown,
    }
    seed = audit.parameters["seed"]
    try:
        found = find_reasons(audit.classifier, photos, audit.explainer, seed=seed, **settings)
    except MissingExtraError as exc:
        notice = f"wrong reasons were not looked for: {exc}"
        return replace(audit, notices=(*audit.notices, notice))
    pairs = (
        confused_pairs(audit.classifier, photos, audit.explainer, **settings)
        if audit.subjects.labelled
        else ()
    )
    told = with_reasons(audit, found, pairs)
    return replace(told, failures=tuple(dict.fromkeys((*told.failures, *found.failures))))


def _given(
    classifier: Classifier,
    data: str | Path | Images,
    masks: str | Path | Masks | Tensor | None,
    values: Values,
    labels: Labels | None,
    split: str | None,
    limit: int | None,
    shown: bool,
) -> Given:
    if not isinstance(data, str | Path):
        if split is not None or not (masks is None or isinstance(masks, Tensor)):
            raise UsageError(
                "images that are given have no split, and their masks are a tensor (b, H, W): for "
                "masks on disk give the folder of the photos"
            )
        return _of_images(classifier, data, masks, labels, limit)
    if isinstance(masks, Tensor) or labels is not None:
        raise UsageError(
            "the masks and labels of photos on disk are on disk: give a folder or CSV of masks, "
            "and labels as folders or in the CSV of the data set"
        )
    records, notices = reported(Path(data), classifier, split)
    index = masks if isinstance(masks, Masks) else open_masks(masks)
    records = with_known_labels(records, classifier.class_names)
    taken = sample(records, limit, shows_region(index, values[0], classifier.preprocessing))
    subjects, failures = photo_subjects(classifier, taken.chosen, index, values, shown=shown)
    if not len(subjects):
        raise ImageError(f"none of the {len(taken.chosen)} photos can be read: {failures[0]}")
    notices = (*notices, *taken.notices)
    if index is not None and not subjects.masked:
        notices = (*notices, "no photo has a mask with anything in it where the network looks")
    root = folder_of(Path(data))
    return Given(subjects, records, index, None, root, tuple(failures), tuple(notices))


def _of_images(
    classifier: Classifier,
    images: Images,
    masks: Tensor | None,
    labels: Labels | None,
    limit: int | None,
) -> Given:
    batch = prepare(classifier, images)
    if batch.inputs.ndim != 4:
        raise UsageError("an audit is of images, not of volumes: give (b, channels, H, W)")
    known = label_indices(labels, len(batch.inputs), classifier.class_names)
    every = subjects_of(batch.inputs, names=batch.names, labels=known, masks=masks)
    shows = None if masks is None else (masks > 0).flatten(1).any(1).tolist().__getitem__
    taken = sample(range(len(every)), limit, shows)
    return Given(every.at(taken.chosen), batch.inputs, masks, labels, notices=taken.notices)


def photo_subjects(
    classifier: Classifier,
    records: Sequence[Record],
    masks: Masks | None,
    values: Values = (None, None),
    *,
    shown: bool = False,
) -> tuple[Subjects, list[str]]:
    """Photos on disk that can be read, opened once to see whether; and why others cannot.

    ``values`` are those of index masks that mark the region and the object around it.
    """

    def shot_of(record: Record, name: str) -> Shot:
        return open_shot(
            record,
            name,
            masks,
            mask_value=values[0],
            object_value=values[1],
            preprocessing=classifier.preprocessing,
        )

    names = shown_names([record.path for record in records])
    kept, failures = list[Opened](), list[str]()
    with progress("reading photos", len(records), shown=shown) as advance:
        for record, name in zip(records, names, strict=True):
            try:
                kept.append(_seen(classifier, shot_of(record, name)))
            except ImageError as exc:
                failures.append(str(exc))
            advance(1)

    def opened(places: Sequence[int]) -> Batch:
        shots = [shot_of(kept[place].record, kept[place].name) for place in places]
        inputs = classifier.inputs([shot.photo for shot in shots])
        if masks is None:
            return Batch(inputs)
        regions = _stacked([shot.mask for shot in shots], inputs)
        if values[1] is None:
            return Batch(inputs, regions)
        return Batch(inputs, regions, _stacked([shot.around for shot in shots], inputs))

    found = classifier.class_names
    subjects = Subjects(
        names=tuple(one.name for one in kept),
        labels=tuple(
            UNKNOWN if one.record.label is None else found.index(one.record.label) for one in kept
        ),
        digests=tuple(one.digest for one in kept),
        open=opened,
        masked=any(one.masked for one in kept),
    )
    return subjects, failures


@dataclass(frozen=True)
class Opened:
    """A photo that can be read."""

    record: Record
    name: str
    digest: str
    masked: bool


def _seen(classifier: Classifier, shot: Shot) -> Opened:
    inputs = classifier.inputs([shot.photo])
    if not bool(inputs.isfinite().all()):
        raise ImageError(f"{shot.name}: after preprocessing it holds values that are not finite")
    drawn = [torch.tensor(mask) for mask in (shot.mask, shot.around) if mask is not None]
    masked = shot.mask is not None and bool(shot.mask.any())
    return Opened(shot.record, shot.name, digest_of(inputs, *drawn), masked)


def _stacked(masks: Sequence[np.ndarray | None], inputs: Tensor) -> Tensor:
    """Masks of all photos; a photo without one has an empty one."""
    empty = torch.zeros(tuple(inputs.shape[2:]))
    return torch.stack([empty if mask is None else torch.tensor(mask) for mask in masks])
