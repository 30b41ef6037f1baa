"""The best map of a classifier: found once, and remembered in its folder."""

import warnings
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mitate.auditing.audit import audit_images
from mitate.auditing.defaults import default_pick
from mitate.auditing.files import BestFile, remember, remembered
from mitate.auditing.subjects import Subjects, subjects_of
from mitate.errors import MitateWarning, UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.inputs import Images, prepare
from mitate.explain.targets import Labels, label_indices
from mitate.models.accepting import as_classifier
from mitate.models.classifier import Classifier


def best_explainer(
    model: Any,
    images: Images | None = None,
    *,
    labels: Labels | None = None,
    masks: Float[Tensor, "b H W"] | None = None,
    seed: int = 0,
    **settings: Any,
) -> Explainer:
    """The explainer of the best map, as ``Explainer.best`` tells.

    Raises:
        UsageError: no image where nothing is remembered, or nothing that can be measured.
    """
    classifier = as_classifier(model)
    known = remembered(classifier)
    if images is None:
        if known is None:
            raise UsageError(
                "no best map is remembered for this classifier: give images to find it with, such "
                "as Explainer.best(classifier, images)"
            )
        return _of(classifier, known)
    subjects = _subjects(classifier, images, labels, masks)
    if known is not None and not settings and _are(subjects.shuffled(seed), known):
        return _of(classifier, known)
    pick = settings.pop("pick", None) or default_pick(subjects.masked)
    done = audit_images(classifier, subjects, metrics=(pick,), pick=pick, seed=seed, **settings)
    if done.recommendation is None or done.explainer is None:
        raise UsageError(
            f"no map has a value in {pick}, so none is the best: give other images or another pick"
        )
    if classifier.folder is not None:
        remember(done, classifier.folder)
    _warn(done.recommendation.trusted, done.recommendation.reason)
    return done.explainer


def best_known(classifier: Classifier) -> BestFile | None:
    """The map that is remembered for a classifier, if any.

    Warns:
        MitateWarning: it is no better than a control.
    """
    known = remembered(classifier)
    if known is not None:
        _warn(known.trusted, known.reason)
    return known


def _subjects(
    classifier: Classifier, images: Images, labels: Labels | None, masks: Tensor | None
) -> Subjects:
    batch = prepare(classifier, images)
    if batch.inputs.ndim != 4:
        raise UsageError("the best map is found on images, not on volumes")
    known = label_indices(labels, len(batch.inputs), classifier.class_names)
    return subjects_of(batch.inputs, names=batch.names, labels=known, masks=masks)


def _are(subjects: Subjects, known: BestFile) -> bool:
    return known.images_sha256 == subjects.digest


def _of(classifier: Classifier, known: BestFile) -> Explainer:
    _warn(known.trusted, known.reason)
    return Explainer(classifier, known.method, known.layer)


def _warn(trusted: bool, reason: str) -> None:
    if not trusted:
        warnings.warn(reason, MitateWarning, stacklevel=4)
