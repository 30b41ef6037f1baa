import importlib.metadata
import importlib.util
import re

import pytest

from mitate import __version__
from mitate.checkup import NEEDED, OPTIONAL, checkup


def found(subject):
    (finding,) = [finding for finding in checkup() if finding.subject == subject]
    return finding


def test_this_machine_has_what_is_needed():
    findings = checkup()
    subjects = [finding.subject for finding in findings]
    assert len(set(subjects)) == len(subjects)
    assert {"python", "mitate", *NEEDED, *OPTIONAL} <= set(subjects)
    assert all(finding.good for finding in findings if finding.needed)
    assert all(finding.remedy for finding in findings if not finding.good)
    assert found("mitate").found == __version__


def test_all_that_mitate_asks_for_is_looked_for():
    asked = {"": set(), "train": set(), "audit": set(), "hf": set()}
    for line in importlib.metadata.requires("mitate"):
        name = re.match(r"[\w.-]+", line)[0]
        extra = re.search(r"extra == [\"'](\w+)", line)
        asked.get(extra[1] if extra else "", set()).add(name)
    assert asked.pop("") == set(NEEDED)
    assert set.union(*asked.values()) <= set(OPTIONAL)


def without(monkeypatch, *names):
    """As if these packages were not installed."""
    version, find = importlib.metadata.version, importlib.util.find_spec

    def missing(name):
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("mitate.checkup.version", missing)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in names else find(name)
    )


def test_an_optional_package_that_is_missing(monkeypatch):
    without(monkeypatch, "fastai")
    finding = found("fastai")
    assert (finding.good, finding.needed) == (False, False)
    assert finding.remedy == "pip install 'mitate[train]'  (training)"


@pytest.mark.parametrize("name", ["torch", "torchvision", "timm", "matplotlib"])
def test_a_needed_package_that_is_missing_is_no_crash(monkeypatch, name):
    without(monkeypatch, name)
    finding = found(name)
    assert (finding.good, finding.needed) == (False, True)
    assert finding.remedy == f"pip install {name}"


def test_a_torchvision_that_cannot_be_imported(monkeypatch):
    def broken(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("mitate.imports.torchvision", broken)
    finding = found("torchvision's import")
    assert not finding.good
    assert "nms" in finding.found
    assert "belongs to this torch" in finding.remedy


def test_fonts_are_told_with_a_remedy(monkeypatch):
    monkeypatch.setattr("mitate.drawing.fonts.undrawable", lambda texts: frozenset("見"))
    assert "fonts-noto-cjk" in found("fonts for Japanese, Chinese, Korean").remedy
    monkeypatch.setattr("mitate.drawing.fonts.undrawable", lambda texts: frozenset())
    assert found("fonts for Japanese, Chinese, Korean").good


def test_no_browser(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    finding = found("chromium")
    assert (finding.good, finding.needed) == (False, False)
    assert "apt install chromium" in finding.remedy
