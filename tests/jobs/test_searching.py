"""Wrong reasons behind an audit: what a budget leaves for them, and what is kept."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import mitate
import seeing
from mitate.auditing.reasons.finding import search_cost
from mitate.auditing.reasons.keeping import keep, kept
from mitate.jobs import searching
from mitate.jobs.audited import audit_report
from mitate.view.report import render_report

SETTINGS = {"methods": ("gradcam",), "layers": ("colours",), "metrics": ("early_deletion",)}


@pytest.fixture(scope="module")
def tinted(tmp_path_factory):
    """Photos of which one class is told by a corner."""
    return seeing.photos(tmp_path_factory.mktemp("tinted"), 24, tinted=True)


@pytest.fixture
def searches(monkeypatch):
    """The numbers of photos that are searched."""
    made, find = [], searching.find_reasons

    def noted(classifier, photos, *rest, **settings):
        made.append(len(photos))
        return find(classifier, photos, *rest, **settings)

    monkeypatch.setattr(searching, "find_reasons", noted)
    return made


def equal(one, other):
    """Whether two results are the same, to the last pixel."""
    assert type(one) is type(other)
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            equal(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, np.ndarray | Image.Image):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        equal(tuple(one.values()), tuple(other.values()))
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            equal(first, second)
    else:
        assert one == other or (np.isnan(one) and np.isnan(other))


def test_what_was_found_is_kept_and_taken_again(tinted, tmp_path, searches):
    photos, masks = tinted
    arguments = {"masks": masks, "out": tmp_path, **SETTINGS}
    first = mitate.audit(seeing.cheat(), photos, **arguments)
    again = mitate.audit(seeing.cheat(), photos, **arguments)
    assert searches == [24]
    assert first.reasons.groups
    assert first.reasons.spots
    equal(again.reasons, first.reasons)
    equal(again.confused, first.confused)
    pages = [render_report(audit_report(done)) for done in (first, again)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("change", ["a photo", "a mask", "another seed", "fewer", "the network"])
def test_of_anything_else_it_is_looked_for_again(tinted, tmp_path, searches, change):
    photos, masks = seeing.photos(tmp_path / "own", 12, tinted=True)
    arguments = {"masks": masks, "out": tmp_path / "out", **SETTINGS}
    mitate.audit(seeing.cheat(), photos, **arguments)
    classifier = seeing.cheat()
    if change == "a photo":
        path = sorted(photos.rglob("*.png"))[0]
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    elif change == "a mask":
        path = sorted(masks.rglob("*.png"))[0]
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    elif change == "another seed":
        arguments["seed"] = 1
    elif change == "fewer":
        arguments["reasons"] = 8
    else:
        classifier = seeing.honest()
    mitate.audit(classifier, photos, **arguments)
    assert searches == [12, 8 if change == "fewer" else 12]


def test_a_damaged_file_is_no_use(tinted, tmp_path):
    photos, _ = tinted
    done = mitate.audit(seeing.cheat(), photos, **SETTINGS)
    path = tmp_path / "reasons.npz"
    keep(path, "plan", done.reasons, done.confused)
    equal(kept(path, "plan"), (done.reasons, done.confused))
    assert kept(path, "another plan") is None
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert kept(path, "plan") is None
    assert kept(tmp_path / "nowhere.npz", "plan") is None


def test_the_estimate_tells_of_the_search(tinted, searches):
    told = []
    mitate.audit(seeing.cheat(), tinted[0], tell=told.append, **SETTINGS)
    assert told[1].startswith("then wrong reasons in up to 24 images: about ")
    mitate.audit(seeing.cheat(), tinted[0], tell=told.clear() or told.append, reasons=0, **SETTINGS)
    assert not any("wrong reasons" in words for words in told)
    assert searches == [24]


def test_a_budget_is_for_the_search_too(tinted, searches):
    free = mitate.audit(seeing.cheat(), tinted[0], reasons=0, **SETTINGS)
    least = free.course.forwards / 24 * 6
    budget = least + 16.5 * search_cost(free.recommended.cost)
    done = mitate.audit(seeing.cheat(), tinted[0], budget=budget, **SETTINGS)
    assert done.values.images == 6
    assert searches == [16]
    assert done.reasons.images == 16
    (notice,) = (words for words in done.notices if "the budget" in words)
    assert notice.startswith("wrong reasons were looked for in 16 of 24 images")


def test_a_budget_for_the_maps_alone_leaves_nothing_to_search(tinted, searches):
    free = mitate.audit(seeing.cheat(), tinted[0], reasons=0, **SETTINGS)
    least = free.course.forwards / 24 * 6
    done = mitate.audit(seeing.cheat(), tinted[0], budget=least * 1.01, **SETTINGS)
    assert done.values.images == 6
    assert done.reasons is None
    assert any("in 0 of 24 images" in words for words in done.notices)
    assert not searches


def test_other_names_of_the_classes_are_looked_for_again(tmp_path, searches):
    inputs, _, _ = seeing.tensors(24)
    settings = {"out": tmp_path, **SETTINGS}
    made = seeing.cheat()
    mitate.audit(made, inputs, **settings)
    turned = dataclasses.replace(made, class_names=tuple(reversed(made.class_names)))
    again = mitate.audit(turned, inputs, **settings)
    assert len(searches) == 2
    for group in again.reasons.groups:
        members = [again.subjects.names.index(name) for name in group.names]
        named = {turned.class_names[again.predicted[place]] for place in members}
        assert named == {group.class_name}


def test_a_mask_that_cannot_be_used_does_not_stop_the_search(tmp_path):
    photos, masks = seeing.photos(tmp_path, 24, tinted=True)
    bad, *good = sorted(masks.rglob("*.png"))
    with Image.open(bad) as image:
        image.resize((4, 4)).save(bad)
    for path in good[:-4]:
        path.unlink()
    arguments = {"masks": masks, "reasons": 6, "out": tmp_path / "out", **SETTINGS}
    done = mitate.audit(seeing.cheat(), photos, **arguments)
    assert done.reasons.images == 6
    assert (tmp_path / "out" / "report.html").exists()
