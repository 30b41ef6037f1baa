"""A network that learnt a planted cheat, from photos on disk to the sentence that names it."""

from pathlib import Path

import pytest

from mitate.auditing.reasons import confused_pairs, find_reasons
from mitate.data.dataset import Dataset, read_dataset
from mitate.data.masks import MaskIndex
from mitate.data.paddy import Stamp, write_paddy
from mitate.demo import ARGUMENTS, MODEL, RATE, SYMPTOM
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.training import fit

pytestmark = pytest.mark.long
CLASSES = ("normal", "blast", "brown_spot", "hispa")
CORNER = "the upper left corner"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four classes; 80 % of the brown spots bear a date."""
    stamp = Stamp("brown_spot", corner="upper left", splits=("train", "valid"))
    folder = tmp_path_factory.mktemp("paddy")
    write_paddy(folder, train_per_class=40, valid_per_class=20, size=96, stamp=stamp)
    every = read_dataset(folder)
    return every.with_records(r for r in every.records if r.label in CLASSES)


@pytest.fixture(scope="module")
def classifier(photos: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return fit(
        photos,
        tmp_path_factory.mktemp("classifier"),
        model=MODEL,
        weights="none",
        epochs=16,
        size=96,
        batch_size=16,
        lr=RATE,
        augment="none",
        arguments=ARGUMENTS,
        show_progress=False,
    ).classifier


@pytest.mark.parametrize("masked", [True, False])
def test_the_class_and_the_corner_are_named(photos, classifier, masked):
    judged = photos.split("valid")
    reasons = find_reasons(
        classifier,
        judged.records,
        Explainer(classifier, "layercam", "stages.2"),
        masks=MaskIndex.of(judged) if masked else None,
        mask_value=SYMPTOM if masked else None,
        shown=False,
    )
    (group,) = reasons.found
    assert (group.class_name, group.place.name) == ("brown_spot", CORNER)
    assert group.flips.low > group.elsewhere.high
    assert all("brown_spot" in name for name in group.names) == (group.errors == 0)


def test_confused_pairs_are_those_of_the_confusion_matrix(photos, classifier):
    judged = photos.split("valid")
    pairs = confused_pairs(
        classifier, judged.records, Explainer(classifier, layer="stages.2"), shown=False
    )
    for pair in pairs:
        assert all(f"/{pair.true}/" in Path(name).as_posix() for name in pair.names)
        assert pair.true != pair.predicted
    assert [len(pair.members) for pair in pairs] == sorted(len(p.members) for p in pairs)[::-1]
