import csv
import json
import math
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import tiny
from mitate.data.dataset import read_dataset
from mitate.data.masks import MaskIndex
from mitate.drawing.sheet import save_sheet
from mitate.errors import TargetError, UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation
from mitate.jobs.explaining import Style, explain_photos
from mitate.jobs.photos import gather
from mitate.training.pseudo import make_masks

pytestmark = pytest.mark.filterwarnings("ignore::mitate.drawing.fonts.MissingGlyphWarning")


@pytest.fixture(scope="module")
def classifier():
    return tiny.classifier()


@pytest.fixture
def folder(tmp_path):
    return tiny.photos(tmp_path / "photos", {"blast": 3, "いもち病": 3})


def explain(classifier, source, out, **settings):
    settings = {"methods": ("gradcam",), "shown": False, **settings}
    sources = source if isinstance(source, list) else [source]
    return explain_photos(
        classifier, gather(sources, classifier.class_names).records, out, **settings
    )


def rows(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_all_that_is_written(classifier, tmp_path):
    folder, out = tiny.photos(tmp_path / "photos", {"blast": 10}), tmp_path / "out"
    done = explain(classifier, folder, out, methods=("gradcam", "scorecam"))
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == [
        "maps/gradcam-001.npz",
        "maps/gradcam-002.npz",
        "maps/scorecam-001.npz",
        "maps/scorecam-002.npz",
        "predictions.csv",
        "predictions.json",
        "sheet-001.png",
        "sheet-002.png",
    ]
    assert [path.name for path in done.figures] == ["sheet-001.png", "sheet-002.png"]
    first, second = (Explanation.load(out / "maps" / f"gradcam-00{i}.npz") for i in (1, 2))
    assert (len(first), len(second)) == (8, 2)
    assert json.loads((out / "predictions.json").read_text("utf-8")) == done.predictions


def test_what_was_drawn_among_the_photos_is_no_photo(classifier, folder, tmp_path):
    """Sheets, a classifier's confusion matrix and masks made of maps, whatever they lie in."""
    photos = gather([folder], classifier.class_names).records
    for out in (folder, folder / "heat"):
        explain(classifier, folder, out)
        assert (out / "sheet-001.png").exists()
    classifier.save(folder / "trained")
    tiny.photo(0).save(folder / "trained" / "confusion.png")
    make_masks(Explainer(classifier), read_dataset(folder), folder / "made", shown=False)
    assert list((folder / "made" / "masks").rglob("*.png"))
    assert gather([folder], classifier.class_names).records == photos
    dataset = read_dataset(folder)
    assert dataset.class_names == ("blast", "いもち病")
    assert len(dataset) == 6
    tiny.photo(0).save(folder / "blast" / "sheet-001.png")
    assert len(read_dataset(folder)) == 7


def test_names_do_not_depend_on_the_choice(classifier, folder, tmp_path):
    found = gather([folder], classifier.class_names)
    some = explain_photos(
        classifier,
        found.records[:1],
        tmp_path / "out",
        methods=("gradcam",),
        among=found.whole,
        shown=False,
    )
    assert [one["image"] for one in some.predictions] == ["blast/0000.png"]


def test_predictions_are_the_classifiers_own(classifier, folder, tmp_path):
    done = explain(classifier, folder, tmp_path)
    paths = sorted(folder.glob("*/*.png"), key=lambda p: (p.parent.name != "いもち病", p.name))
    by_name = {row["image"]: row for row in rows(tmp_path / "predictions.csv")}
    assert len(by_name) == len(done.predictions) == 6
    for path in paths:
        row = by_name[f"{path.parent.name}/{path.name}"]  # the classes' files share their names
        with Image.open(path) as photo:
            expected = classifier.logits(classifier.inputs([photo.convert("RGB")])).softmax(-1)[0]
        assert row["true"] == path.parent.name
        assert row["predicted"] == row["class_1"] == tiny.NAMES[int(expected.argmax())]
        assert float(row["probability_1"]) == pytest.approx(float(expected.max()), abs=1e-5)
        assert {row["class_1"], row["class_2"], row["class_3"]} == set(tiny.NAMES)


def test_top_k_is_three_or_all_of_fewer(tmp_path, folder):
    two = tiny.classifier(("blast", "rust"))
    done = explain(two, folder, tmp_path / "a")
    assert len(done.predictions[0]["classes"]) == 2
    assert len(explain(two, folder, tmp_path / "b", top_k=1).predictions[0]["classes"]) == 1
    with pytest.raises(TargetError, match="top_k is 3 and the classifier has 2"):
        explain(two, folder, tmp_path / "c", top_k=3)
    assert not (tmp_path / "c").exists()


def test_bad_photos_are_told_and_left_out(classifier, folder, tmp_path):
    (folder / "blast" / "a text.jpg").write_text("no picture")
    done = explain(classifier, [folder, folder / "missing.jpg"], tmp_path / "out")
    assert len(done.predictions) == 6
    assert [len(line.splitlines()) for line in done.failures] == [1, 1]
    assert "a text.jpg is not a picture" in done.failures[0]
    assert "missing.jpg does not exist" in done.failures[1]


def test_nothing_readable_leaves_empty_tables(classifier, tmp_path):
    done = explain(classifier, tmp_path / "missing.jpg", tmp_path / "out")
    assert (done.predictions, done.figures, len(done.failures)) == ([], [], 1)
    assert (tmp_path / "out" / "predictions.json").read_text() == "[]\n"


@pytest.fixture
def masks(folder, tmp_path):
    """The left half of every photo; an empty mask for one, none for another."""
    for number, path in enumerate(sorted(folder.glob("*/*.png"))):
        mask = np.zeros((30, 40), np.uint8)
        mask[:, : 20 * (number != 1)] = 2
        place = tmp_path / "masks" / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if number != 2:
            Image.fromarray(mask).save(place)
    return MaskIndex.open(tmp_path / "masks")


class TestMasks:
    def test_methods_stand_beside_the_controls(self, classifier, folder, tmp_path, masks):
        out = tmp_path / "out"
        done = explain(classifier, folder, out, masks=masks, mask_value=2)
        places = done.comparison.places()
        assert [place.method for place in places] == ["gradcam", "random", "centre", "edges"]
        assert len({place.layer for place in places}) == 1
        assert places[0].layer.startswith("stages.3")
        assert len(done.comparison) == 4
        assert {place.energy.images + place.energy.missing for place in places} == {4}
        centre = places[2].energy
        assert centre.mean == pytest.approx(0.5, abs=1e-3)
        table = rows(out / "energy.csv")
        assert len(table) == 4
        assert "/" in table[0]["image"]
        json.dumps(done.places_as_dicts())

    def test_shares_are_of_the_predicted_class(self, classifier, folder, tmp_path, masks):
        from mitate.auditing.localisation import energy_share

        done = explain(classifier, folder, tmp_path / "out", masks=masks, mask_value=2)
        maps = Explanation.load(tmp_path / "out" / "maps" / "gradcam-001.npz")
        left = torch.zeros(64, 64)
        left[:, :32] = 1
        row = done.comparison.rows()[0]
        index = maps.names.index(row["image"])
        expected = energy_share(maps.maps[index, :1], left[None]).item()
        share = next(v for k, v in row.items() if k.startswith("gradcam"))
        assert share == pytest.approx(expected, abs=2e-3) or math.isnan(expected)

    def test_a_control_that_was_asked_for_stands_once(self, classifier, folder, tmp_path, masks):
        done = explain(
            classifier, folder, tmp_path / "out", methods=("Random", "centre"), masks=masks
        )
        assert [p.method for p in done.comparison.places()] == ["random", "centre", "edges"]

    def test_a_bad_mask_is_told_by_name(self, classifier, folder, tmp_path, masks):
        broken = next((tmp_path / "masks" / "blast").glob("*.png"))
        broken.write_bytes(b"\x89PNG\r\n\x1a\n half")
        done = explain(classifier, folder, tmp_path / "out", masks=masks, mask_value=2)
        assert len(done.failures) == 1
        assert str(broken) in done.failures[0]
        assert len(done.predictions) == 6  # of the photo too

    def test_an_earlier_table_does_not_stay(self, classifier, folder, tmp_path, masks):
        explain(classifier, folder, tmp_path / "out", masks=masks)
        explain(classifier, folder, tmp_path / "out")
        assert not (tmp_path / "out" / "energy.csv").exists()


class TestAuto:
    def test_says_what_was_chosen_and_is_taken_once(self, classifier, folder, tmp_path):
        out = tmp_path / "out"
        explain(classifier, folder, out, methods=("auto", "glance", "gradcam"), top_k=1)
        assert sorted(path.name for path in (out / "maps").iterdir()) == [
            "glance-001.npz",
            "gradcam-001.npz",
        ]

    def test_a_budget_is_autos_only(self, classifier, folder, tmp_path):
        settings = {"budget": 63.0, "top_k": 1, "layer": "stages.0 + stages.3"}
        explain(classifier, folder, tmp_path / "out", methods=("gradcam", "auto"), **settings)
        kept = Explanation.load(tmp_path / "out" / "maps" / "loupe-001.npz")
        assert kept.options["steps"] == 20
        assert kept.cost <= 63
        with pytest.raises(UsageError, match="budget is for the method auto"):
            explain(classifier, folder, tmp_path / "out", methods=("gradcam",), **settings)

    def test_a_fusion_goes_to_the_methods_that_have_one(self, classifier, folder, tmp_path):
        settings = {"fusion": "product", "layer": "stages.0 + stages.3", "top_k": 1}
        explain(classifier, folder, tmp_path / "out", methods=("glance", "gradcam"), **settings)
        kept = Explanation.load(tmp_path / "out" / "maps" / "gradcam-001.npz")
        assert kept.fusion == "product"
        with pytest.raises(UsageError, match="leave out fusion"):
            explain(classifier, folder, tmp_path / "out", methods=("glance",), **settings)


class TestAnEarlierRun:
    def names(self, out):
        return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}

    def test_what_a_larger_one_left_goes_and_is_told(self, classifier, tmp_path):
        photos, out = tiny.photos(tmp_path / "photos", {"blast": 10}), tmp_path / "out"
        assert explain(classifier, photos, out, methods=("centre", "edges")).notices == []
        done = explain(classifier, photos / "blast" / "0000.png", out, methods=("edges",))
        assert self.names(out) == {
            "sheet-001.png",
            "maps/edges-001.npz",
            "predictions.csv",
            "predictions.json",
        }
        assert done.notices == [
            f"removed 4 files of an earlier run from {out}: maps/centre-001.npz, "
            "maps/centre-002.npz, maps/edges-002.npz …"
        ]
        again = explain(classifier, photos / "blast" / "0000.png", out, methods=("edges",))
        assert again.notices == []

    def test_nothing_else_is_touched(self, classifier, folder, tmp_path):
        out = tmp_path / "out"
        (out / "maps").mkdir(parents=True)
        others = [
            "sheet-01.png",
            "sheet-0012.png",
            "sheet-002.jpg",
            "my sheet-002.png",
            "sheet-002.png.bak",
            "Sheet-002.png",
            "maps/mine-002.npz",
            "maps/edges-2.npz",
            "maps/edges-002.npy",
            "maps/sheet-002.png",
            "edges-002.npz",
            "predictions.txt",
        ]
        for name in others:
            (out / name).write_text("mine")
        (out / "sheet-003.png").mkdir()
        old = ["sheet-002.png", "sheet-1000.png", "maps/edges-002.npz", "maps/centre-1234.npz"]
        for name in [*old[2:], "energy.csv"]:
            (out / name).write_text("old")
        for name, signed in zip(old[:2], ("mitate", "Matplotlib version3.11.0"), strict=True):
            info = PngInfo()
            info.add_text("Software", signed)
            tiny.photo().save(out / name, pnginfo=info)
        tiny.photo().save(out / "sheet-009.png")  # a scan of the user's own
        done = explain(classifier, folder, out, methods=("edges",))
        assert "removed 5 files" in done.notices[0]
        assert self.names(out) == {
            *others,
            "sheet-001.png",
            "sheet-009.png",
            "maps/edges-001.npz",
            "predictions.csv",
            "predictions.json",
        }
        assert all((out / name).read_text() == "mine" for name in others)
        assert (out / "sheet-003.png").is_dir()

    @pytest.mark.parametrize("number", ["001", "007"])
    def test_a_photo_that_is_called_like_a_result_is_not_written_over(
        self, classifier, tmp_path, number
    ):
        out = tmp_path / "out"
        out.mkdir()
        photo = out / f"sheet-{number}.png"
        tiny.photo().save(photo)
        before = photo.read_bytes()
        with pytest.raises(UsageError, match="place of a result, and would be written over"):
            explain(classifier, photo, out)
        if number == "001":
            tiny.photo().save(tmp_path / "other.png")
            with pytest.raises(UsageError, match="place of a result, and would be written over"):
                explain(classifier, tmp_path / "other.png", out)
        assert photo.read_bytes() == before
        assert self.names(out) == {photo.name}
        assert len(explain(classifier, photo, tmp_path / "another").predictions) == 1

    def test_it_stays_when_nothing_new_comes_of_a_wrong_call(self, classifier, folder, tmp_path):
        explain(classifier, folder, tmp_path / "out")
        before = self.names(tmp_path / "out")
        for wrong in ({"layer": "stages.9"}, {"style": Style("viridus")}, {"methods": ("x",)}):
            with pytest.raises(UsageError):
                explain(classifier, folder, tmp_path / "out", **wrong)
        assert self.names(tmp_path / "out") == before

    def test_it_stays_when_nothing_can_be_read(self, classifier, folder, tmp_path):
        explain(classifier, folder, tmp_path / "out")
        before = self.names(tmp_path / "out")
        done = explain(classifier, tmp_path / "missing.jpg", tmp_path / "out")
        assert self.names(tmp_path / "out") == before
        assert done.notices == [
            f"nothing new: what an earlier run left in {tmp_path / 'out'} stays"
        ]

    def test_an_interruption_leaves_nothing_of_it(
        self, classifier, folder, tmp_path, masks, monkeypatch
    ):
        explain(classifier, folder, tmp_path / "out", masks=masks, methods=("centre", "edges"))

        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("mitate.jobs.explaining._measure", interrupted)
        with pytest.raises(KeyboardInterrupt, match="after 6 of 6 photos: what was drawn of them"):
            explain(classifier, folder, tmp_path / "out", methods=("edges",))
        assert self.names(tmp_path / "out") == {
            "sheet-001.png",
            "maps/edges-001.npz",
            "predictions.csv",
            "predictions.json",
        }
        table = (tmp_path / "out" / "predictions.json").read_text("utf-8")
        assert len(json.loads(table)) == 6

    def test_no_sheet_is_without_its_rows(self, classifier, folder, tmp_path, monkeypatch):
        """Ctrl-C between a sheet and what is known of it."""

        def saved_and_interrupted(figure, path):
            signal.raise_signal(signal.SIGINT)
            return save_sheet(figure, path)

        monkeypatch.setattr("mitate.jobs.explaining.save_sheet", saved_and_interrupted)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt, match="after 6 of 6 photos"):
                explain(classifier, folder, tmp_path / "out", methods=("edges",))
        finally:
            signal.signal(signal.SIGINT, before)
        assert self.names(tmp_path / "out") == {
            "sheet-001.png",
            "maps/edges-001.npz",
            "predictions.csv",
            "predictions.json",
        }


def test_what_was_estimated_is_told_of_all_photos(folder, tmp_path):
    """Six photos, two batches of figures or more: one line, of the channels of all of them."""
    wide = tiny.classifier()
    whole = explain(wide, folder, tmp_path, methods=("gradcam", "scorecam"))
    assert whole.notices == []
    told = explain(
        wide,
        folder,
        tmp_path,
        methods=("gradcam", "scorecam"),
        layer="stages.3",
        options={"tolerance": 0.05},
    )
    parts = [
        Explanation.load(path).estimate for path in sorted((tmp_path / "maps").glob("score*.npz"))
    ]
    scored = sum(int(part.scored.sum()) for part in parts)
    channels = sum(int(part.channels.sum()) for part in parts)
    worst = max(float(part.error.max()) for part in parts)
    (line,) = told.notices
    assert line.startswith(f"scorecam: {scored / channels:.0%} of the channels were scored")
    assert f"({scored} of {channels})" in line
    assert f"at least {1 - worst:.3f}" in line


def test_a_style_is_checked_before_the_work(classifier, folder, tmp_path):
    with pytest.raises(UsageError, match="opacity"):
        explain(classifier, folder, tmp_path / "out", style=Style(opacity=2.0))
    assert not (tmp_path / "out").exists()


class TestMethods:
    def test_each_is_taken_once(self, classifier, folder, tmp_path):
        explain(classifier, folder, tmp_path, methods=("gradcam", "Grad-CAM"))
        assert {path.name[:7] for path in (tmp_path / "maps").iterdir()} == {"gradcam"}

    def test_options_go_to_those_that_have_them(self, classifier, folder, tmp_path):
        explain(classifier, folder, tmp_path, methods=("gradcam", "centre"), options={"sigma": 0.1})
        assert Explanation.load(tmp_path / "maps" / "centre-001.npz").options == {"sigma": 0.1}
        with pytest.raises(UsageError, match="no option 'sigma'"):
            explain(classifier, folder, tmp_path, options={"sigma": 0.1})

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"methods": ("gradcamm",)}, "did you mean gradcam"),
            ({"layer": "stages.9"}, "stages.9"),
            ({"style": Style(colormap="viridus")}, "viridis"),
            ({"style": Style(opacity=2.0)}, "opacity"),
            ({"batch_size": 0}, "batch_size"),
        ],
    )
    def test_what_is_not_known_is_told(self, classifier, folder, tmp_path, settings, words):
        with pytest.raises(UsageError, match=words):
            explain(classifier, folder, tmp_path / "out", **settings)


def test_labels_of_a_name_that_two_classes_bear_are_unknown(tmp_path, folder):
    done = explain(tiny.classifier(("blast", "crane", "blast")), folder / "blast", tmp_path / "out")
    assert {entry["true"] for entry in done.predictions} == {None}


def test_a_broken_network_is_flagged_and_its_json_has_no_nan(folder, tmp_path):
    broken = tiny.classifier()
    with torch.no_grad():
        broken.network.head.fc.weight.fill_(math.nan)
    done = explain(broken, folder, tmp_path)
    assert len(done.flags) == 18
    assert done.predictions[0]["classes"][0]["probability"] is None
    assert "NaN" not in (tmp_path / "predictions.json").read_text("utf-8")


def test_flags_name_photo_method_and_class(classifier, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "flat.png")
    done = explain(classifier, tmp_path / "flat.png", tmp_path, methods=("edges",), top_k=1)
    assert len(done.flags) == 1
    assert done.flags[0].startswith("flat.png: the edges map for ")
