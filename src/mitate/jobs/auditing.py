"""The audit of a classifier on photos: what `mitate audit` does, and `mitate.audit` in Python."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mitate.auditing.audit import Audit, audit_images
from mitate.auditing.files import write_audit
from mitate.data.masks import Masks
from mitate.explain.inputs import Images
from mitate.explain.targets import Labels
from mitate.jobs.audited import audit_report
from mitate.jobs.given import LIMIT, given
from mitate.jobs.searching import REASONS, check_reasons, with_wrong_reasons
from mitate.models.accepting import as_classifier
from mitate.view.report import write_report

PARTS, PAGE = "parts", "report.html"


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
        methods: names; None takes seven at the layer that ``auto`` takes, and two of them at
            earlier ones.
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
    check_reasons(reasons)
    classifier = as_classifier(model)
    folder = None if out is None else Path(out)
    parts = None if folder is None else folder / PARTS
    values = (mask_value, object_value)
    taken = given(classifier, data, masks, values, labels, split, limit, shown)
    searched = len(taken.photos) if reasons is None else min(reasons, len(taken.photos))
    done = audit_images(
        classifier,
        taken.subjects,
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
        searched=searched,
        folder=parts,
        tell=tell,
        shown=shown,
    )
    done = replace(done, failures=taken.failures, notices=(*taken.notices, *done.notices))
    if searched:
        done = with_wrong_reasons(
            done, taken, searched, mask_value=mask_value, folder=parts, shown=shown
        )
    if folder is not None:
        write_report(audit_report(done, title=title), folder / PAGE)
        write_audit(done, folder)
    return done
