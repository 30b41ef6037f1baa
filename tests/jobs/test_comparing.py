"""Two classifiers on the same photos: wrong reasons are told of each."""

import json

import pytest

import mitate
import seeing
from mitate.errors import UsageError

SETTINGS = {"method": "gradcam", "layer": "colours", "metrics": ("early_deletion",)}


@pytest.fixture(scope="module")
def tinted(tmp_path_factory):
    """Photos of which both classes are told by a corner, and by a square."""
    return seeing.photos(tmp_path_factory.mktemp("tinted"), 24, tinted=True)


def test_the_one_that_looks_at_the_corner_is_told_from_the_one_that_does_not(tinted, tmp_path):
    photos, masks = tinted
    arguments = {"masks": masks, "out": tmp_path, **SETTINGS}
    done = mitate.compare(seeing.cheat(), seeing.honest(), photos, **arguments)
    first, second = (audit.verdict for audit in done.audits)
    assert first.outcome == "wrong reasons"
    assert "the upper left" in first.sentences[0]
    assert second.outcome != "wrong reasons"
    told = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))["classifiers"]
    assert ["the upper left" in " ".join(one["reasons"]["words"]) for one in told] == [True, False]


def test_none_are_looked_for_where_none_are_asked(tinted):
    done = mitate.compare(seeing.cheat(), seeing.honest(), tinted[0], reasons=0, **SETTINGS)
    assert [audit.reasons for audit in done.audits] == [None, None]
    with pytest.raises(UsageError, match="reasons is -1: use 0 for none"):
        mitate.compare(seeing.cheat(), seeing.honest(), tinted[0], reasons=-1, **SETTINGS)
