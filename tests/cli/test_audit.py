"""mitate audit and mitate compare in the program."""

import csv

import pytest
import torch

import seeing
import tiny
from mitate.errors import UsageError

WORDS = ("-m", "gradcam", "--layer", "auto", "--metric", "early_deletion", "--reasons", 0)


@pytest.fixture
def squares(tmp_path):
    return seeing.photos(tmp_path / "squares", 8, tinted=False)


@pytest.fixture
def honest(monkeypatch):
    """As if REF were the classifier that looks at the squares, and CHEAT the one that does not."""
    made = {"REF": seeing.honest(), "CHEAT": seeing.cheat()}
    monkeypatch.setattr("mitate.models.classifier.Classifier.load", made.__getitem__)
    return "REF"


def test_the_whole(mitate, honest, squares, tmp_path):
    photos, masks = squares
    words = ("-m", "gradcam", "--layer", "colours", "--metric", "energy", "--reasons", 0)
    done = mitate("audit", honest, photos, "--masks", masks, "-o", tmp_path / "out", *words)
    assert done.code == 0
    assert "1 map and 5 controls of 8 images by 1 metric: about 96 forwards" in done.err
    assert "The classifier uses the region, and the map shows it." in done.out
    assert "gradcam (shifted)" in done.out
    assert (tmp_path / "out" / "audit.json").is_file()
    with (tmp_path / "out" / "audit.csv").open(encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == 8 * 6


def test_json_is_the_manifest(mitate, honest, squares):
    done = mitate("audit", honest, squares[0], *WORDS, "--layer", "colours", "--json")
    assert done.code == 0
    assert done.json["format"] == "mitate audit"
    assert done.json["recommendation"]["method"] == "gradcam"


def test_a_missed_threshold_is_exit_code_4(mitate, honest, squares):
    require = ("--require", "accuracy>=1", "--require", "early_deletion<=0.01")
    done = mitate(
        "audit", honest, squares[0], "-m", "gradcam", "--layer", "colours", *WORDS[4:], *require
    )
    assert done.code == 4
    assert "met: accuracy>=1 (1)" in done.out
    assert "MISSED: early_deletion<=0.01" in done.out
    done = mitate(
        "audit", honest, squares[0], *WORDS[:2], "--layer", "colours", *WORDS[4:], *require[:2]
    )
    assert done.code == 0


def test_a_photo_that_cannot_be_read_is_exit_code_3(mitate, honest, squares):
    (squares[0] / "red" / "broken.png").write_bytes(b"no picture")
    done = mitate("audit", honest, squares[0], *WORDS[:2], "--layer", "colours", *WORDS[4:])
    assert done.code == 3
    assert "skipped: " in done.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--require", "energie>=0.5"), "energy"),
        (("--require", "energy>=0.5"), "not measured"),
        (("--budget", "soon"), "10min"),
        (("--budget", "10"), "too small"),
        (("--metric", "energy"), "give masks"),
        (("--pick", "nonsense"), "nonsense"),
        (("--limit", "0"), "limit of 0"),
        (("-m", "gradcan"), "gradcam"),
        (("--option", "nonsense=1"), "nonsense"),
        (("--remember",), "no folder to remember"),
    ],
)
def test_wrong_usage_is_told_with_the_way_out(mitate, honest, squares, words, told):
    done = mitate("audit", honest, squares[0], *WORDS[4:], "--layer", "colours", *words)
    assert done.code == 2
    assert told in done.error


def test_the_map_is_remembered_in_the_folder(mitate, photos, tmp_path):
    import mitate as package

    folder = tiny.classifier().save(tmp_path / "mine").folder
    done = mitate("audit", folder, photos, *WORDS, "--remember")
    assert done.code == 0
    assert (
        f"remembered in {folder}, as the best of those that were compared and not to be relied"
        in done.err
    )
    with pytest.warns(package.MitateWarning, match="not to be relied on"):
        explainer = package.Explainer.best(folder)
    assert explainer.method.name == "gradcam"


class TestBest:
    def test_it_is_found_once_for_the_same_images(self, tmp_path, monkeypatch):
        import mitate
        from mitate.auditing import best

        made = tiny.classifier().save(tmp_path / "mine")
        inputs = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with pytest.warns(mitate.MitateWarning):
            first = mitate.Explainer.best(made, inputs, methods=["hirescam"], layers=["stages.2"])
        assert (first.method.name, first.layers) == ("hirescam", ["stages.2"])
        monkeypatch.setattr(best, "audit_images", lambda *_, **__: pytest.fail("measured again"))
        with pytest.warns(mitate.MitateWarning):
            again = mitate.Explainer.best(made, inputs)
        assert (again.method.name, again.layers) == ("hirescam", ["stages.2"])

    def test_other_weights_are_not_remembered(self, tmp_path):
        import mitate

        made = tiny.classifier().save(tmp_path / "mine")
        inputs = torch.randn(6, 3, 64, 64)
        with pytest.warns(mitate.MitateWarning):
            mitate.Explainer.best(made, inputs, methods=["hirescam"], layers=["stages.2"])
        with torch.no_grad():
            made.network.head.fc.weight.add_(1)
        with pytest.raises(UsageError, match="no best map is remembered"):
            mitate.Explainer.best(made)

    def test_the_honest_map_is_best_without_a_warning(self):
        import mitate

        inputs, masks, labels = seeing.tensors(8)
        found = mitate.Explainer.best(
            seeing.honest(), inputs, masks=masks, labels=labels,
            methods=["gradcam", "fem"], layers=["colours", "stripe"],
        )  # fmt: skip
        assert (found.method.name, found.layers) == ("gradcam", ["colours"])


class TestCompare:
    LINE = ("--method", "gradcam", "--layer", "colours", "--metric", "energy")

    def test_the_whole(self, mitate, honest, tmp_path):
        photos, masks = seeing.photos(tmp_path / "tinted", 8, tinted=True)
        done = mitate(
            "compare", honest, "CHEAT", photos, "--masks", masks, *self.LINE, "-o", tmp_path / "out"
        )
        assert done.code == 0
        assert "accuracy" in done.out
        assert "not told apart" in done.out
        assert "Where the map moved most" in done.out
        assert {p.name for p in (tmp_path / "out").iterdir()} == {"compare.json", "compare.csv"}

    def test_a_worse_classifier_is_kept_out(self, mitate, honest, squares):
        photos, masks = squares
        words = ("compare", honest, "CHEAT", photos, "--masks", masks, *self.LINE)
        require = ("--require", "accuracy not worse", "--require", "energy>=0.1")
        done = mitate(*words, *require)
        assert done.code == 4
        assert "MISSED: accuracy not worse" in done.out
        assert "first: The classifier uses the region, and the map shows it." in done.out
        assert "second: The classifier is not better than guessing" in done.out
        turned = mitate("compare", "CHEAT", honest, *words[3:], "--require", "accuracy better")
        assert turned.code == 0
        assert "met: accuracy better" in turned.out

    def test_json(self, mitate, honest, squares):
        done = mitate(
            "compare", honest, honest, squares[0], *self.LINE[:4], "--metric", "deletion", "--json"
        )
        assert done.code == 0
        assert [one["metric"] for one in done.json["differences"]] == ["accuracy", "deletion"]
        assert done.json["differences"][1]["difference"]["mean"] == 0
        assert {one["moved"] for one in done.json["moved"]} == {0}

    def test_what_controls_are_for(self, mitate, honest, squares):
        words = ("--require", "deletion better than control")
        done = mitate("compare", honest, honest, squares[0], "--metric", "deletion", *words)
        assert done.code == 2
        assert "not worse" in done.error
