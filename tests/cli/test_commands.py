import csv
import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mitate import Classifier
from mitate.cli.parsing import options_of, size_of
from mitate.cli.tables import print_json, print_table
from mitate.errors import UsageError
from mitate.explain.explanation import Explanation
from mitate.explain.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore::mitate.drawing.fonts.MissingGlyphWarning")


def first_without_energy(monkeypatch):
    """As if the first photo's maps were zero."""
    from mitate.auditing import comparison

    def energy_share(maps, masks, measured=comparison.energy_share):
        shares = measured(maps, masks)
        return shares.index_fill(0, torch.tensor([0]), math.nan)

    monkeypatch.setattr(comparison, "energy_share", energy_share)


def test_these_tests_run_on_one_thread():
    assert torch.get_num_threads() == 1


class TestExplain:
    def test_the_whole(self, mitate, ref, photos, tmp_path):
        done = mitate("explain", ref, photos, "-o", tmp_path / "out")
        assert done.code == 0
        assert "blast/0000.png" in done.out
        assert "4 photos in 1 figure in" in done.err
        assert (tmp_path / "out" / "sheet-001.png").is_file()

    def test_several_sources_and_methods(self, mitate, ref, photos, tmp_path):
        words = (photos / "blast" / "0000.png", photos / "いもち病", "-o", tmp_path / "out")
        done = mitate("explain", ref, *words, "-m", "gradcam", "--method", "scorecam", "-k", 1)
        assert done.code == 0
        kept = {path.name for path in (tmp_path / "out" / "maps").iterdir()}
        assert kept == {"gradcam-001.npz", "scorecam-001.npz"}
        with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8-sig") as file:
            assert len(list(csv.DictReader(file))) == 3

    def test_photos_that_a_table_lists_and_nobody_has(self, mitate, ref, photos, tmp_path):
        table = photos / "some.csv"
        table.write_text("path,label\nblast/0000.png,blast\nblast/nope.png,blast\n")
        done = mitate("explain", ref, table, "-o", tmp_path / "out")
        said = "note: 1 image listed in some.csv cannot be found and is left out: blast/nope.png"
        assert said in done.err.replace("\n", " ")

    def test_json(self, mitate, ref, photos, tmp_path):
        done = mitate("explain", ref, photos, "-o", tmp_path / "out", "--json")
        assert [entry["true"] for entry in done.json["photos"]].count("blast") == 2
        assert done.json["places"] == []

    def test_json_has_no_nan(self, mitate, photos, tmp_path):
        broken = tiny.classifier()
        with torch.no_grad():
            broken.network.head.fc.bias.fill_(math.inf)
        network = broken.network
        for path in photos.glob("*/*.png"):
            mask = tmp_path / "masks" / path.parent.name / path.name
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (40, 30), 255).save(mask)
        from dataclasses import replace

        classifier = replace(broken, network=network)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mitate.models.classifier.Classifier.load", lambda ref: classifier)
            words = ("explain", "x", photos, "-o", tmp_path / "out", "--masks", tmp_path / "masks")
            done = mitate(*words, "--json")
            assert done.json["photos"][0]["classes"][0]["probability"] is None
            assert len(done.json["places"]) == 4
            assert "flag: " in done.err
            assert mitate(*words).code == 0

    def test_masks_print_the_shares_beside_the_controls(self, mitate, ref, photos, tmp_path):
        for path in photos.glob("*/*.png"):
            mask = np.zeros((30, 40), np.uint8)
            mask[:, :20] = 2
            place = tmp_path / "masks" / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(place)
        words = ("--masks", tmp_path / "masks", "--mask-value", 2)
        done = mitate("explain", ref, photos, "-o", tmp_path / "out", *words)
        assert done.code == 0
        assert "4 photos; the masks cover 0.500 of them" in done.out
        for name in ("gradcam", "random (control)", "centre (control)", "edges (control)"):
            assert name in done.out
        assert "too few photos to judge: 4 of at least 6" in done.out
        done = mitate("explain", ref, photos, "-o", tmp_path / "out", *words, "--json")
        assert [place["method"] for place in done.json["places"]][0] == "gradcam"

    def test_photos_that_a_mean_leaves_out_are_told(
        self, mitate, ref, photos, tmp_path, monkeypatch
    ):
        first_without_energy(monkeypatch)
        for path in photos.glob("*/*.png"):
            place = tmp_path / "masks" / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (40, 30), 255).save(place)
        words = ("explain", ref, photos, "-o", tmp_path / "out", "--masks", tmp_path / "masks")
        done = mitate(*words)
        (heading,) = [line for line in done.out.splitlines() if "95 % interval" in line]
        assert heading.split()[-2:] == ["left", "out"]
        assert re.search(r"edges \(control\) +stages\.3\S* +1.000 +1.000 to 1.000 +1 ", done.out)
        assert "Left out: photos whose map has no energy" in done.out
        with (tmp_path / "out" / "energy.csv").open(encoding="utf-8-sig") as file:
            first, *others = csv.DictReader(file)
        assert first["left_out"] == "gradcam; random; centre; edges"
        assert {row["left_out"] for row in others} == {""}
        for place in mitate(*words, "--json").json["places"]:
            assert (place["energy"]["images"], place["energy"]["missing"]) == (3, 1)

    def test_a_larger_former_run_is_told_and_gone(self, mitate, ref, photos, tmp_path):
        words = ("explain", ref, photos, "-o", tmp_path / "out")
        assert mitate(*words, "-m", "edges", "-m", "centre").code == 0
        done = mitate(*words, "-m", "edges")
        (line,) = [line for line in done.err.splitlines() if "earlier run" in line]
        assert line.startswith("note: removed 1 file of an earlier run from ")
        assert line.endswith(": maps/centre-001.npz")

    def test_a_classifier_of_two_classes_needs_no_option(self, mitate, photos, tmp_path):
        tiny.classifier(("a", "b")).save(tmp_path / "two")
        words = ("explain", tmp_path / "two", photos, "-o", tmp_path / "out")
        assert mitate(*words).code == 0
        done = mitate(*words, "-k", 3)
        assert done.code == 2
        assert "use a whole number from 1 to 2" in done.error

    def test_options_reach_the_method(self, mitate, ref, photos, tmp_path):
        words = ("explain", ref, photos, "-o", tmp_path / "out", "-m", "scorecam")
        assert mitate(*words, "--option", "channel-softmax=true").code == 0
        assert "write NAME=VALUE" in mitate(*words, "--option", "x").error
        assert mitate(*words, "--option", "sigma=1").code == 2

    def test_several_layers_in_one_map(self, mitate, ref, photos, tmp_path):
        kept = {}
        for fusion in ("max", "product"):
            words = ("--layer", "stages.2 + auto", "--fusion", fusion)
            assert mitate("explain", ref, photos, "-o", tmp_path / fusion, *words).code == 0
            kept[fusion] = Explanation.load(tmp_path / fusion / "maps" / "gradcam-001.npz")
            assert kept[fusion].layer == "stages.2 + stages.3"
            assert kept[fusion].fusion == fusion
        assert not torch.equal(kept["max"].maps, kept["product"].maps)

    def test_the_best_for_a_budget(self, mitate, ref, photos, tmp_path):
        words = ("explain", ref, photos, "-o", tmp_path / "out", "-k", 1, "--budget", 70)
        assert mitate(*words, "-m", "auto", "--limit", 1).code == 0
        kept = Explanation.load(tmp_path / "out" / "maps" / "loupe-001.npz")
        assert kept.options["steps"] == 22
        assert kept.cost <= 70
        refused = mitate(*words, "-m", "gradcam")
        assert refused.code == 2
        assert "budget is for the method auto" in refused.error

    def test_one_class_against_another(self, mitate, ref, photos, tmp_path):
        words = ("explain", ref, photos, "-o", tmp_path / "out", "--augment")
        masked = ("--masks", photos)  # no masks, but the controls are made
        assert mitate(*words, "--against", "いもち病", *masked).code == 0
        kept = Explanation.load(tmp_path / "out" / "maps" / "gradcam-001.npz")
        assert kept.options["against"] == "いもち病"
        assert kept.options["augment"] is True
        assert "is no class" in mitate(*words, "--against", "rust").error
        assert (
            "use a method of gradients"
            in mitate(*words, "--against", "nearest", "-m", "eigencam").error
        )

    def test_labels_splits_and_limits(self, mitate, ref, photos, tmp_path):
        words = ("explain", ref, photos, "-o", tmp_path / "out", "--json")
        done = mitate(*words, "--label", "brown spot", "--limit", 2)
        assert [entry["true"] for entry in done.json["photos"]] == ["brown spot"] * 2
        assert mitate(*words, "--label", "rust").code == 2
        assert mitate(*words, "--split", "valid").code == 2
        assert mitate(*words, "--limit", 0).code == 2

    def test_a_photo_in_a_folder_with_spaces_and_other_scripts(self, mitate, ref, tmp_path):
        place = tmp_path / "水田 の 写真" / "葉 1.jpg"
        place.parent.mkdir()
        tiny.photo().save(place)
        done = mitate("explain", ref, place, "-o", tmp_path / "出力 先", "--json")
        assert done.json["photos"][0]["image"] == "葉 1.jpg"

    def test_a_name_that_is_not_even_utf_8(self, mitate, ref, tmp_path):
        odd = tmp_path / b"caf\xe9.png".decode("utf-8", "surrogateescape")
        try:
            tiny.photo().save(tmp_path / "a.png")
            (tmp_path / "a.png").rename(odd)
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        assert mitate("explain", ref, odd, "-o", tmp_path / "out").code == 0

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["--layer", "stages.9"], 2, "stages.9"),
            (["--layer", "head.fc"], 2, "head.fc"),
            (["-m", "gradcamm"], 2, "did you mean gradcam"),
            (["--colormap", "viridus"], 2, "viridis"),
            (["--opacity", "7"], 2, "opacity"),
            (["--masks", "missing"], 1, "no masks at missing"),
            (["--batch-size", "0"], 2, "use 1 or more"),
        ],
    )
    def test_wrong_words(self, mitate, ref, photos, tmp_path, words, code, said):
        done = mitate("explain", ref, photos, "-o", tmp_path / "out", *words)
        assert done.code == code
        assert said in done.error

    def test_a_name_too_long_for_a_path_is_a_bad_photo(self, mitate, ref, photos, tmp_path):
        long = "x" * 300 + ".jpg"
        done = mitate("explain", ref, photos / "blast", long, "-o", tmp_path / "out")
        assert done.code == 3
        assert f"skipped: {long} does not exist" in done.err

    def test_a_photo_that_a_table_lists_in_vain_is_missed(self, mitate, ref, photos, tmp_path):
        table = tmp_path / "list.csv"
        there = next(iter((photos / "blast").iterdir()))
        table.write_text(f"path\n{there}\ngone.png\n", encoding="utf-8")
        done = mitate("explain", ref, table, "-o", tmp_path / "out")
        assert done.code == 3
        assert "1 image listed in list.csv cannot be found and is left out: gone.png" in done.err


class TestWhereResultsGo:
    """What cannot be written is told before the work."""

    COMMANDS = (
        "explain {ref} {photos} -o {out}",
        "report {ref} {photos} -o {out}",
        "report {ref} {photos} -o {out}/page.html",
        "train {photos} -o {out} --model test_convnext --weights none",
        "train {photos} -o {out} --model test_convnext --model test_resnet --weights none",
        "convert {photos} {out}",
        "demo -o {out}",
    )

    @pytest.fixture
    def called(self, mitate, photos, monkeypatch):
        """Run a command whose work would be told."""

        def called(command, out):
            for place in (
                "mitate.models.classifier.Classifier.load",
                "mitate.training.preparing.prepared",
                "mitate.models.pickles.convert",
                "mitate.demo.run_demo",
            ):
                monkeypatch.setattr(place, lambda *_, **__: pytest.fail("the work was begun"))
            return mitate(*command.format(ref="ref", photos=photos, out=out).split())

        return called

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("below", ["", "/new/folder"])
    def test_a_file(self, called, tmp_path, command, below):
        (tmp_path / "out").write_text("mine")
        done = called(command, f"{tmp_path / 'out'}{below}")
        assert done.code == 1
        assert done.error == (
            f"error: {tmp_path / 'out'}: Not a directory: check the path, its rights and the disk"
        )
        assert (tmp_path / "out").read_text() == "mine"

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("below", ["", "/new/folder"])
    def test_a_folder_without_rights(self, called, tmp_path, monkeypatch, command, below):
        (tmp_path / "out").mkdir()
        monkeypatch.setattr("os.access", lambda place, rights: place != tmp_path / "out")
        done = called(command, f"{tmp_path / 'out'}{below}")
        assert done.code == 1
        assert done.error == (
            f"error: {tmp_path / 'out'}: Permission denied: check the path, its rights and the disk"
        )
        assert not list((tmp_path / "out").iterdir())

    def test_a_folder_for_one_of_several_models(self, called, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "test_resnet").touch()
        done = called(self.COMMANDS[4], tmp_path / "out")
        assert "test_resnet: Not a directory" in done.error


class TestReport:
    def test_the_whole(self, mitate, ref, photos, tmp_path):
        done = mitate("report", ref, photos, "-o", tmp_path / "new" / "r.html", "--title", "葉")
        assert done.code == 0
        assert "葉" in (tmp_path / "new" / "r.html").read_text(encoding="utf-8")
        assert done.err.endswith("r.html\n")

    def test_options_and_colours_are_those_of_explain(self, mitate, ref, photos, tmp_path):
        pages = {}
        for name, words in {
            "plain": [],
            "option": ["--option", "sigma=0.05"],
            "colours": ["--colormap", "jet", "--opacity", "0.4"],
            "layers": ["--layer", "stages.1 + stages.2", "--fusion", "product"],
        }.items():
            page = tmp_path / f"{name}.html"
            centre = ("-m", "centre", *(() if "--layer" in words else ("--layer", "stages.1")))
            assert mitate("report", ref, photos, "-o", page, *centre, *words).code == 0
            pages[name] = page.read_text(encoding="utf-8")
        heats = {
            name: re.search(r'class="heat".*?href="([^"]+)"', page)[1]
            for name, page in pages.items()
        }
        assert len(set(heats.values())) == 4
        assert 'style="--opacity: 0.4"' in pages["colours"]
        assert 'style="--opacity: 0.5"' in pages["plain"]

    def test_bad_photos(self, mitate, ref, photos, tmp_path):
        (photos / "blast" / "a.jpg").write_text("no picture")
        done = mitate("report", ref, photos, "-o", tmp_path)
        assert done.code == 3
        assert "skipped: " in done.err
        assert (tmp_path / "report.html").is_file()
        done = mitate("report", ref, photos / "blast" / "a.jpg", "-o", tmp_path / "b.html")
        assert done.code == 1
        assert "none of the 1 photos can be read" in done.error
        assert not (tmp_path / "b.html").exists()

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["--split", "test"], 2, "test"),
            (["--right", "-1"], 2, "0 or more"),
            (["--option", "x"], 2, "write NAME=VALUE"),
            (["--option", "sigma=1"], 2, "no option 'sigma'"),
            (["--colormap", "viridus"], 2, "viridis"),
            (["--opacity", "7"], 2, "opacity"),
        ],
    )
    def test_wrong_words(self, mitate, ref, photos, tmp_path, words, code, said):
        done = mitate("report", ref, photos, "-o", tmp_path, *words)
        assert done.code == code
        assert said in done.error

    def test_data_that_is_not_there(self, mitate, ref, tmp_path):
        done = mitate("report", ref, tmp_path / "no", "-o", tmp_path)
        assert (done.code, "does not exist" in done.error) == (1, True)


class TestMasks:
    def test_made_judged_and_trained_with(self, mitate, ref, tmp_path):
        folder = tiny.marked_photos(tmp_path, {"blast": 3, "いもち病": 3})
        words = ("masks", ref, folder / "images", "-o", tmp_path / "out", "--layer", "stages.1")
        true = ("--masks", folder / "masks", "--mask-value", 2)
        done = mitate(*words, *true)
        assert done.code == 0, done.err
        assert "6 masks in" in done.out
        assert "on 6 true masks" in done.out
        found = mitate(*words, *true, "--json").json
        assert found["judged"] == 6
        assert 0 <= found["iou"] <= found["dice"] <= 1
        made = tmp_path / "out" / "masks"
        again = mitate("explain", ref, folder / "images", "-o", tmp_path / "maps", "--masks", made)
        assert again.code == 0
        assert "6 photos; the masks cover" in again.out

    def test_without_true_masks(self, mitate, ref, photos, tmp_path):
        (photos / "blast" / "bad.jpg").write_text("no picture")
        words = ("--empty", "blast", "--layer", "stages.1")
        done = mitate("masks", ref, photos, "-o", tmp_path / "out", *words)
        assert done.code == 3
        assert "skipped: " in done.err
        assert done.out == f"4 masks in {tmp_path / 'out'}, at a threshold of 0.50\n"
        assert (tmp_path / "out" / "instances.json").is_file()

    @pytest.mark.parametrize(
        ("words", "said"),
        [(["--threshold", "2"], "above 0"), (["--empty", "x"], "x is no class")],
    )
    def test_wrong_words(self, mitate, ref, photos, tmp_path, words, said):
        done = mitate("masks", ref, photos, "-o", tmp_path / "out", *words)
        assert done.code == 2
        assert said in done.error
        assert not (tmp_path / "out").exists()


class TestTrain:
    @pytest.fixture
    def data(self, tmp_path):
        return tiny.photos(tmp_path / "data", {"blast": 6, "いもち病": 6, "single": 1})

    def words(self, data, out, *more):
        usual = {
            "--model": "test_convnext",
            "--weights": "none",
            "--epochs": 1,
            "--size": 32,
            "--lr": 0.001,
            "--augment": "none",
        }
        usual = {name: value for name, value in usual.items() if name not in more}
        return ("train", data, "-o", out, *(w for pair in usual.items() for w in pair), *more)

    def test_one(self, mitate, data, tmp_path):
        done = mitate(*self.words(data, tmp_path / "out"))
        assert done.code == 0
        assert "note: 1 class with a single image" in done.err
        assert done.err.count("single image") == 1
        assert "precision" in done.out
        assert "ms an image" in done.out
        assert Classifier.load(tmp_path / "out").class_names == ("blast", "single", "いもち病")

    def test_uneven_classes_are_told_and_may_be_balanced(self, mitate, tmp_path):
        parts = tiny.photos(tmp_path / "parts", {"good": 25, "scratch": 5})
        done = mitate(*self.words(parts, tmp_path / "uneven"))
        assert "good has 20 photos to train on and scratch 4: --balance shows" in done.err
        done = mitate(*self.words(parts, tmp_path / "even", "--balance"))
        assert done.code == 0
        assert "balance" not in done.err
        for name in ("uneven", "even"):
            training = Classifier.load(tmp_path / name).provenance["training"]
            assert training["balance"] is (name == "even")

    def test_with_masks(self, mitate, tmp_path):
        folder = tiny.marked_photos(tmp_path, {"blast": 4, "hispa": 4})
        (folder / "masks" / "hispa" / "0000.png").unlink()
        more = ("--masks", folder / "masks", "--mask-value", 2, "--segmentation-loss", "focal")
        words = self.words(folder / "images", tmp_path / "out", *more, "--size", 64)
        done = mitate(*words, "--valid-fraction", 0.5)
        assert done.code == 0, done.err
        assert "of 4 training images and" in done.err
        assert "Dice" in done.err
        assert done.out.count("Dice") == done.out.count("IoU") == 2
        saved = Classifier.load(tmp_path / "out")
        assert saved.decoder.regions == ("region",)
        assert saved.provenance["training"]["masks"]["losses"] == ["focal"]
        done = mitate(*words, "--regions", "class", "--uncertainty", "--json")
        found = done.json["test_convnext"]["segmentation"]
        assert [row["name"] for row in found["classes"]] == ["blast", "hispa"]
        assert "Dice" in (tmp_path / "out" / "history.csv").read_text("utf-8-sig").title()
        assert Classifier.load(tmp_path / "out").decoder.regions == ("blast", "hispa")
        maps = mitate("explain", tmp_path / "out", folder / "images", "-o", tmp_path / "maps")
        assert maps.code == 0

    def test_two_side_by_side(self, mitate, data, tmp_path):
        more = (
            "--model",
            "test_convnext",
            "--model",
            "test_resnet",
            "--model",
            "test_resnet",
            "--json",
        )
        done = mitate(*self.words(data, tmp_path / "out", *more))
        assert list(done.json) == ["test_convnext", "test_resnet"]
        for name, result in done.json.items():
            assert Classifier.load(tmp_path / "out" / name).folder
            assert result["folder"] == str(tmp_path / "out" / name)
            assert set(result) >= {
                "accuracy",
                "macro_f1",
                "parameters",
                "milliseconds_an_image",
                "seconds_of_training",
            }
        done = mitate(*self.words(data, tmp_path / "b", *more[:4]))
        assert done.out.count("test_") == 2

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["--model", "convnext_nana"], 1, "convnext_nano"),
            (["--epochs", "0"], 2, "0 epochs: use 1 or more"),
            (["--size", "two"], 2, "128x256"),
            (["--size", "4"], 2, "takes no images of 4x4 px"),
            (["--weights", "no.safetensors"], 1, "no weights file at no.safetensors"),
            (["--group", "part"], 1, "index.csv"),
            (["--valid-fraction", "1"], 2, "between 0 and 1"),
            (["--seed", "-1"], 2, "from 0 up"),
            (["--masks", "no-masks"], 1, "no masks at no-masks"),
            (["--segmentation-weight", "-1"], 2, "positive"),
            (["--guide", "masks"], 2, "name them with --masks"),
            (["--draw-masks"], 2, "name them with --masks"),
        ],
    )
    def test_wrong_words(self, mitate, data, tmp_path, words, code, said):
        done = mitate(*self.words(data, tmp_path / "out", *words))
        assert done.code == code
        assert said in done.error
        assert not (tmp_path / "out").exists()

    def test_weights_of_another_architecture(self, mitate, data, ref, tmp_path):
        weights = ("--weights", ref / "weights.safetensors")
        done = mitate(*self.words(data, tmp_path / "out", *weights))
        assert done.code == 1
        assert "does not fit" in done.error

    @pytest.mark.parametrize("numbers", [{"a": 5}, {"a": 1, "b": 1}, {"a": 0}, {}])
    def test_too_little(self, mitate, tmp_path, numbers):
        (tmp_path / "data").mkdir()
        data = tiny.photos(tmp_path / "data", numbers)
        done = mitate(*self.words(data, tmp_path / "out"))
        assert done.code == 1
        assert done.error


class TestLayers:
    def test_the_table(self, mitate, ref):
        done = mitate("layers", ref)
        assert done.code == 0
        assert "stages.3" in done.out
        assert done.out.count(" auto ") == 1

    def test_json(self, mitate, ref):
        entries = mitate("layers", ref, "--json", "--size", "64x96").json
        assert [entry["auto"] for entry in entries].count(True) == 1
        assert {entry["grid"] for entry in entries} >= {"16x24", "2x3"}

    def test_a_size_that_the_network_cannot_take(self, mitate, tmp_path):
        tiny.classifier().save(tmp_path)
        done = mitate("layers", tmp_path, "--size", "2")
        assert done.code == 2
        assert "2x2" in done.error


class TestOthers:
    @pytest.mark.parametrize(
        ("words", "kind"),
        [
            ("layers {ref}", list),
            ("methods", list),
            ("doctor", list),
            ("explain {ref} {photos}", dict),
        ],
    )
    def test_json_is_what_the_help_says(self, mitate, ref, photos, tmp_path, words, kind):
        words = [word.format(ref=ref, photos=photos) for word in words.split()]
        out = ("-o", tmp_path / "out") if words[0] == "explain" else ()
        assert isinstance(mitate(*words, *out, "--json").json, kind)
        told = mitate(words[0], "--help").out
        assert ("print a list of objects" in told) == (kind is list)
        assert "print an object" not in told

    def test_methods(self, mitate):
        assert [entry["name"] for entry in mitate("methods", "--json").json] == list(METHODS)
        out = mitate("methods").out
        assert all(name in out for name in METHODS)

    def test_doctor(self, mitate):
        entries = mitate("doctor", "--json").json
        assert {"torch", "timm", "chromium"} <= {entry["subject"] for entry in entries}
        assert mitate("doctor").code == 0

    def test_convert(self, mitate, tmp_path):
        (tmp_path / "a.pkl").write_bytes(b"no pickle")
        done = mitate("convert", tmp_path / "a.pkl", tmp_path / "out")
        assert done.code == 1
        assert done.error


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("missing", "mitate train"),
        ("timm:convnext_nana@x", "x"),
        ("timm:test_convnext@{ref}/weights.safetensors", "does not fit"),
        ("{ref}/weights.safetensors", "timm:NAME@"),
        ("{ref}/..", "classifier.json"),
        ("a.pkl", "mitate convert"),
    ],
)
@pytest.mark.parametrize("command", ["explain", "report", "layers"])
def test_references_that_give_no_classifier(
    mitate, ref, photos, tmp_path, command, reference, said
):
    rest = () if command == "layers" else (photos, "-o", tmp_path / "out")
    done = mitate(command, reference.format(ref=ref), *rest)
    assert done.code == 1
    assert said in done.error


@pytest.mark.parametrize("command", ["explain", "report", "audit", "train", "masks"])
def test_a_value_of_masks_without_masks(mitate, ref, photos, tmp_path, command):
    data = (photos,) if command == "train" else (ref, photos)
    done = mitate(command, *data, "-o", tmp_path / "out", "--mask-value", 2)
    assert done.code == 2
    assert "--mask-value 2 is of masks: name them with --masks" in done.error


def test_an_empty_word_is_not_this_folder(mitate, ref, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = mitate("explain", ref, photos, "-o", "")
    assert done.code == 2
    assert "an argument is empty" in done.error
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "size"),
    [("224", (224, 224)), ("128x256", (128, 256)), ("3X4", (3, 4)), ("3×4", (3, 4))],
)
def test_sizes(text, size):
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "x", "3x", "3x4x5", "0", "-3", "3.5", "²", "3 x 4"])
def test_no_sizes(text):
    with pytest.raises(UsageError, match="128x256"):
        size_of(text)


def test_options():
    words = ("a=1", "b-c=0.5", "d=True", "e=x=y", "f=")
    assert options_of(words) == {"a": 1, "b_c": 0.5, "d": True, "e": "x=y", "f": ""}


def test_tables_cut_nothing_and_take_brackets_as_they_are(capsys):
    long = "x" * 400
    print_table(("name", "n"), [[long, "1"], ["[bold]b[/bold]", "–"]])
    out = capsys.readouterr().out
    assert out.count("x") == 400
    assert "[bold]b[/bold]" in out


def test_json_of_anything(capsys):
    print_json({"a": [math.nan, math.inf, 1.5], "b": (None, "葉")})
    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": [None, "葉"]}


@pytest.mark.parametrize(
    "words", [("--regions", "class"), ("--uncertainty",), ("--segmentation-weight", 3)]
)
def test_what_is_of_masks_needs_masks(mitate, photos, tmp_path, words):
    done = mitate("train", photos, "-o", tmp_path / "out", *words)
    assert done.code == 2
    assert "for training with masks: name them with --masks" in done.err
