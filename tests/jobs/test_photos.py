import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from mitate.data.dataset import read_dataset
from mitate.data.masks import MaskIndex
from mitate.data.records import Record
from mitate.data.seen import Seen
from mitate.errors import DataError, ImageError, UsageError
from mitate.jobs.photos import (
    evenly,
    gather,
    names_from,
    one_a_class,
    open_masks,
    open_shot,
    reported,
    shown_names,
    with_known_labels,
)
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing
from mitate.models.saved import SEEN, seen_behind, upcoming

NAMES = ("blast", "正常")
INPUT = Preprocessing(size=(8, 8))


@pytest.fixture
def folder(tmp_path):
    return tiny.photos(tmp_path / "photos", {"blast": 2, "正常": 2})


@pytest.fixture
def table(tmp_path):
    """A data set of four photos with splits, and a label that no classifier knows."""
    tiny.photos(tmp_path, {"a": 4})
    rows = [("blast", "train"), ("blast", "valid"), ("正常", "valid"), ("rust", "test")]
    with (tmp_path / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows((f"a/{i:04}.png", *row) for i, row in enumerate(rows))
    return tmp_path / "index.csv"


class TestGather:
    def test_a_photo_that_several_sources_hold_is_taken_once(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        found = gather([folder / "正常" / "0001.png", "blast", folder], NAMES).records
        names = [f"{record.path.parent.name}/{record.path.name}" for record in found]
        assert names == ["正常/0001.png", "blast/0000.png", "blast/0001.png", "正常/0000.png"]

    def test_all_of_a_data_set_tells_whose_a_mask_is(self, tmp_path):
        """The photos of other splits have a say, pictures that the data set leaves out have not."""
        for side in ("train", "valid"):
            tiny.photos(tmp_path / "data" / side, {"a": 2, "b": 2})
        tiny.photos(tmp_path / "data" / "previews", {"a": 2})
        (tmp_path / "masks").mkdir()
        for name in ("0000.png", "0001.png"):
            Image.new("L", tiny.photo(0).size, 255).save(tmp_path / "masks" / name)
        for path in (tmp_path / "data").rglob("0001.png"):
            if path.parts[-3:-1] != ("train", "a"):
                path.unlink()
        found = gather([tmp_path / "data"], ("a", "b"), split="train")
        assert {record.split for record in found.records} == {"train"}
        assert {record.split for record in found.whole} == {"train", "valid"}
        masks = open_masks(tmp_path / "masks", found.whole)
        only = tmp_path / "data" / "train" / "a"
        assert masks.find(only / "0001.png").name == "0001.png"
        with pytest.raises(DataError, match="may be the mask of"):
            masks.find(only / "0000.png")

    def test_of_two_mentions_the_one_that_tells_more(self, table):
        photo = table.parent / "a" / "0001.png"
        (record,) = gather([photo, table, photo], NAMES, split="valid").records[:1]
        assert (record.path, record.label, record.split) == (photo, "blast", "valid")
        assert len(gather([photo, table], NAMES).records) == 4

    def test_what_a_table_lists_in_vain_is_told(self, table):
        with table.open("a", encoding="utf-8") as file:
            file.write("a/gone.png,blast\n")
        found = gather([table], NAMES)
        assert found.missing == ("a/gone.png",)
        assert any("a/gone.png" in line for line in found.notices)
        assert len(found.records) == len(gather([table], NAMES).whole)

    def test_a_folder_above_the_photos_own_may_be_its_class(self, folder, tmp_path):
        (folder / "blast" / "first day").mkdir()
        (folder / "blast" / "0000.png").rename(folder / "blast" / "first day" / "0000.png")
        assert [r.label for r in gather([folder], NAMES).records] == [
            "blast",
            "blast",
            "正常",
            "正常",
        ]
        (tmp_path / "blast").mkdir()
        moved = folder.rename(tmp_path / "blast" / "photos")
        assert gather([moved], ("photos", "blast")).records[-1].label == "photos"

    def test_a_folder_without_pictures_beside_photos_is_no_class(self, folder):
        flat = folder / "blast"
        (flat / "thumbs").mkdir()
        (flat / "loop").symlink_to(flat, target_is_directory=True)
        found, _ = reported(flat, tiny.classifier(NAMES))
        assert len(found) == 2

    def test_an_address_of_the_web(self):
        with pytest.raises(UsageError, match="https://a.org/leaf.jpg is an address of the web"):
            gather(["https://a.org/leaf.jpg"], NAMES)

    def test_a_table_of_paths_alone(self, folder):
        (folder / "some.csv").write_text("path\nblast/0001.png\n", encoding="utf-8")
        (record,) = gather([folder / "some.csv"], NAMES).records
        assert (record.path, record.label) == (folder / "blast" / "0001.png", None)
        found, notices = reported(folder / "some.csv", tiny.classifier(NAMES))
        assert found == [record]
        assert not notices

    def test_a_photo(self, folder):
        (record,) = gather([folder / "blast" / "0000.png"], NAMES).records
        assert (record.path.name, record.label) == ("0000.png", "blast")

    def test_the_folder_is_the_label_only_where_it_is_a_class(self, folder):
        assert [r.label for r in gather([folder], NAMES).records] == [
            "blast",
            "blast",
            "正常",
            "正常",
        ]
        assert {r.label for r in gather([folder], ("rust",)).records} == {None}
        assert {r.label for r in gather([folder], NAMES, label="blast").records} == {"blast"}

    def test_the_folder_of_a_photo_named_without_it(self, folder, monkeypatch):
        monkeypatch.chdir(folder / "正常")
        assert gather(["0000.png"], NAMES).records[0].label == "正常"

    def test_a_data_set_by_its_table_or_its_folder(self, table):
        for source in (table, table.parent):
            found = gather([source], NAMES, split="valid").records
            assert [record.label for record in found] == ["blast", "正常"]

    def test_split_folders(self, tmp_path):
        tiny.photos(tmp_path, {"train/blast": 2, "valid/blast": 3, "valid/正常": 1})
        assert len(gather([tmp_path], NAMES, split="valid").records) == 4
        assert len(gather([tmp_path], NAMES).records) == 6

    def test_what_is_missing_is_left_to_whoever_opens_it(self, folder):
        found = gather([folder / "blast" / "0000.png", folder / "missing.jpg"], NAMES).records
        assert len(found) == 2
        with pytest.raises(ImageError, match=r"missing\.jpg does not exist"):
            open_shot(found[1], "x", preprocessing=INPUT, failures=[])

    @pytest.mark.parametrize(
        ("label", "names", "words"),
        [("rust", NAMES, "is no class.*blast, 正常"), ("a", ("a", "b", "a"), "several classes")],
    )
    def test_a_label_must_be_one_class(self, folder, label, names, words):
        with pytest.raises(UsageError, match=words):
            gather([folder], names, label=label)

    def test_nothing_to_explain(self, table, tmp_path):
        with pytest.raises(UsageError, match="there is no photo"):
            gather([], NAMES)
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="holds no pictures"):
            gather([tmp_path / "empty"], NAMES)
        with pytest.raises(DataError, match="does not exist"):
            gather([tmp_path / "no.csv"], NAMES)


class TestNames:
    def test_files_that_share_a_name_show_their_folder(self):
        paths = map(Path, ("d/blast/1.jpg", "d/正常/1.jpg", "d/blast/2.jpg"))
        assert shown_names(list(paths)) == ["blast/1.jpg", "正常/1.jpg", "blast/2.jpg"]
        assert shown_names([Path("d/blast/1.jpg"), Path("d/正常/2.jpg")]) == ["1.jpg", "2.jpg"]

    def test_and_their_whole_path_where_the_folder_is_not_enough(self):
        paths = [Path("train/a/1.jpg"), Path("valid/a/1.jpg"), Path("valid/b/1.jpg")]
        assert shown_names(paths) == list(map(str, paths))

    def test_one_photo_named_twice_has_one_name(self):
        assert shown_names([Path("a/1.jpg")] * 2) == ["1.jpg", "1.jpg"]
        assert shown_names([]) == []

    def test_half_characters_are_spelt_out(self):
        odd = Path(b"caf\xe9.jpg".decode("utf-8", "surrogateescape"))
        assert shown_names([odd]) == ["caf\\udce9.jpg"]


def test_names_from_a_data_sets_folder_do_not_depend_on_the_choice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / "d" / "a" / "1.jpg", Path("d/b/1.jpg"), tmp_path / "pool" / "2.jpg"]
    names = ["a/1.jpg", "b/1.jpg", "../pool/2.jpg"]
    for root in (Path("d"), tmp_path / "d"):
        assert names_from(root, paths) == names
        assert [names_from(root, [path])[0] for path in paths] == names
    assert names_from(None, paths[:1]) == ["1.jpg"]


def test_labels_that_name_no_class_or_several_are_unknown():
    records = [Record(Path(f"{i}"), label) for i, label in enumerate(["a", "b", "x", None])]
    known = with_known_labels(records, ("a", "b", "b"))
    assert [record.label for record in known] == ["a", None, None, None]


class TestShot:
    @pytest.fixture
    def record(self, tmp_path):
        tiny.photo(size=(40, 30)).save(tmp_path / "a.png")
        return Record(tmp_path / "a.png", "blast")

    def masks(self, tmp_path, picture):
        (tmp_path / "masks").mkdir()
        picture.save(tmp_path / "masks" / "a.png")
        return MaskIndex.open(tmp_path / "masks")

    def test_its_mask_comes_to_the_input(self, record, tmp_path):
        drawn = np.zeros((30, 40), np.uint8)
        drawn[:, :20] = 2
        masks = self.masks(tmp_path, Image.fromarray(drawn))
        shot = open_shot(record, "a", masks, mask_value=2, preprocessing=INPUT, failures=[])
        assert shot.mask is not None
        assert shot.mask.shape == (8, 8)
        assert shot.mask.mean(0).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
        other = open_shot(record, "a", masks, mask_value=1, preprocessing=INPUT, failures=[])
        assert not other.mask.any()

    def test_without_a_mask(self, record, tmp_path):
        assert open_shot(record, "a", preprocessing=INPUT, failures=[]).mask is None

    def test_a_mask_of_another_size(self, record, tmp_path):
        masks = self.masks(tmp_path, Image.new("L", (30, 40)))
        failures: list[str] = []
        shot = open_shot(record, "a", masks, preprocessing=INPUT, failures=failures)
        assert (shot.photo.size, shot.mask) == ((40, 30), None)
        (told,) = failures
        assert "is 30x40 px and its photo 40x30" in told
        assert told.endswith("(the photo is taken without this mask)")

    def test_a_mask_without_such_values_is_this_photos_fault(self, record, tmp_path):
        masks = self.masks(tmp_path, Image.new("RGB", (40, 30), "red"))
        failures: list[str] = []
        open_shot(record, "a", masks, mask_value=1, preprocessing=INPUT, failures=failures)
        assert "coloured mask" in failures[0]

    def test_masks_that_are_not_there(self, tmp_path):
        assert open_masks(None, []) is None
        with pytest.raises(DataError, match="no masks at"):
            open_masks(tmp_path / "missing", [])


class TestReported:
    @pytest.fixture
    def data(self, tmp_path):
        return tiny.photos(tmp_path / "photos", {"a": 3, "b": 3})

    @pytest.fixture
    def trained(self, data, tmp_path):
        """A classifier whose training set b/0001.png aside."""
        records = [
            replace(record, split="valid" if record.path == data / "b" / "0001.png" else "train")
            for record in read_dataset(data).records
        ]
        seen = Seen.of(replace(read_dataset(data), records=tuple(records)))
        classifier = tiny.classifier(("a", "b")).with_provenance(training={"data": "photos"})
        return replace(classifier, seen=seen).save(tmp_path / "classifier")

    def test_the_validation_part_by_default(self, table):
        records, notices = reported(table, tiny.classifier(("blast", "正常")))
        assert {record.split for record in records} == {"valid"}
        assert "does not know, taken as unlabelled: rust" in notices[0]
        records, _ = reported(table, tiny.classifier(("blast", "正常")), "train")
        assert len(records) == 1

    def test_what_training_set_aside(self, data, trained):
        records, notices = reported(data, trained)
        assert [record.path.name for record in records] == ["0001.png"]
        assert "1 photo that training set aside, not from the 6 of" in notices[0]

    def test_and_in_a_copy_under_other_names(self, data, trained, tmp_path):
        for path in sorted(data.rglob("*.png")):
            copied = tmp_path / "copied" / path.parent.name / f"new {path.name}"
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copied)
        records, notices = reported(tmp_path / "copied", trained)
        assert [record.path.name for record in records] == ["new 0001.png"]
        assert "1 photo that training set aside" in notices[0]

    def test_new_photos_under_the_old_names_are_all_judged(self, data, trained):
        for path in data.rglob("*.png"):
            tiny.photo(2, seed=99).rotate(90).save(path)
        records, notices = reported(data, trained)
        assert (len(records), notices) == (6, ())

    def test_new_photos_among_those_of_the_training(self, data, trained):
        tiny.photo(2, seed=99).save(data / "a" / "new.png")
        records, notices = reported(data, trained)
        assert sorted(record.path.name for record in records) == ["0001.png", "new.png"]
        assert "2 photos that the classifier was not trained on, not from the 7 of" in notices[0]

    def test_another_data_set_whole(self, trained, tmp_path):
        others = tiny.photos(tmp_path / "others", {"c": 3, "d": 3, "a": 0, "b": 0})
        for path in others.rglob("*.png"):
            tiny.photo(2, seed=int(path.stem) + 50).rotate(90).save(path)
        records, notices = reported(others, trained)
        assert len(records) == 6
        assert not any("trained on" in line for line in notices)

    def test_training_photos_among_the_judged_are_told(self, data, trained, tmp_path):
        (data / "b" / "0001.png").unlink()
        records, notices = reported(data, trained)
        assert len(records) == 5
        assert "was trained on all of the photos judged" in notices[0]
        rows = "".join(f"photos/a/{n:04}.png,a,valid\n" for n in range(2))
        table = tmp_path / "with splits.csv"
        table.write_text(f"path,label,split\nphotos/b/0000.png,b,train\n{rows}", encoding="utf-8")
        _, notices = reported(table, trained)
        assert "2 of 2 photos were in the training of" in notices[-1]

    @pytest.mark.parametrize("fault", ["gone", "another", "no table", "an older folder"])
    def test_what_a_training_learnt_from_may_be_unknown(
        self, data, table, trained, tmp_path, fault
    ):
        place = tmp_path / "classifier" / SEEN
        if fault == "gone":
            place.unlink()
        elif fault == "another":
            place.write_bytes(Seen(trained.seen.photos[:1]).content)
        elif fault == "no table":
            place.write_text("path\n" + "x" * 200_000, encoding="utf-8")
        else:
            description = tmp_path / "classifier" / "classifier.json"
            fields = json.loads(description.read_text(encoding="utf-8"))
            del fields["photos_sha256"], fields["photos_whole"]
            description.write_text(json.dumps(fields), encoding="utf-8")
        trained = Classifier.load(tmp_path / "classifier")
        records, notices = reported(data, trained)
        assert len(records) == 6
        assert "Not all photos that" in notices[0]
        for photos in (table, data / "a"):
            assert "Not all photos that" in reported(photos, trained)[1][-1]
        assert not any("Not all" in line for line in reported(table, tiny.classifier())[1])
        trained.save(tmp_path / "again")
        assert not Classifier.load(tmp_path / "again").seen.is_known

    def test_a_copy_and_a_training_that_goes_on_know_it_too(self, data, trained, tmp_path):
        Classifier.load(tmp_path / "classifier").save(tmp_path / "copy")
        weights = tmp_path / "copy" / "weights.safetensors"
        (tmp_path / "link.safetensors").symlink_to(weights)
        for place in (weights, tmp_path / "link.safetensors"):
            assert seen_behind(place).photos == trained.seen.photos
        assert Classifier.load(tmp_path / "copy").seen.photos == trained.seen.photos
        assert Classifier.load(tmp_path / "copy").seen.is_known

    def test_weights_alone_tell_that_there_were_photos(self, data, trained, tmp_path):
        weights = tmp_path / "classifier" / "weights.safetensors"
        seen = seen_behind(Path(shutil.copy(weights, tmp_path)))
        assert (seen.photos, seen.is_known) == ((), False)
        tiny.classifier(("a", "b"), seed=3).save(tmp_path / "other")
        shutil.copy(weights, tmp_path / "other" / "more.safetensors")
        assert not seen_behind(tmp_path / "other" / "more.safetensors").is_known
        assert seen_behind(tmp_path / "other" / "weights.safetensors") is None
        later = Seen.of(read_dataset(data), seen)
        _, notices = reported(data, replace(trained, seen=later))
        assert "Not all photos that" in notices[-1]

    def test_another_classifier_in_the_folder_has_seen_none_of_it(self, data, trained, tmp_path):
        (tmp_path / "classifier" / "photos.csv").write_text("path,label\n", encoding="utf-8")
        tiny.classifier(("a", "b")).save(tmp_path / "classifier")
        assert Classifier.load(tmp_path / "classifier").seen is None
        assert not (tmp_path / "classifier" / SEEN).exists()
        assert (tmp_path / "classifier" / "photos.csv").exists()

    def test_a_save_that_is_cut_short_keeps_the_old_table(
        self, data, trained, tmp_path, monkeypatch
    ):
        def full(*_):
            raise OSError(28, "No space left on device")

        other = replace(trained, seen=Seen(trained.seen.photos[:2]))
        with monkeypatch.context() as patch:
            patch.setattr("mitate.models.saved.write_text", full)
            with pytest.raises(OSError, match="No space"):
                other.save(tmp_path / "classifier")
        assert Classifier.load(tmp_path / "classifier").seen.photos == trained.seen.photos
        assert not list((tmp_path / "classifier").glob("*.next*"))
        other.save(tmp_path / "classifier")
        place = tmp_path / "classifier" / SEEN
        place.rename(upcoming(place))  # cut short behind the description
        assert Classifier.load(tmp_path / "classifier").seen.photos == trained.seen.photos[:2]

    def test_what_training_could_not_read_is_not_new(self, data, trained, tmp_path):
        (data / "b" / "0001.png").unlink()
        (data / "b" / "0009.png").write_bytes(b"no picture")
        records, notices = reported(data, trained)
        assert len(records) == 6
        assert "was trained on all of the photos judged" in notices[0]

    def test_what_was_on_both_sides_was_trained_on(self, data):
        photo = next(data.rglob("*.png"))
        for sides in (("train", "valid"), ("valid", "train")):
            records = tuple(Record(photo, "a", split=side) for side in sides)
            seen = Seen.of(replace(read_dataset(data), records=records))
            assert seen.side_of(photo) == "train"
        earlier = Seen.of(replace(read_dataset(data), records=(Record(photo, "a", split="train"),)))
        seen = Seen.of(
            replace(read_dataset(data), records=(Record(photo, "a", split="valid"),)), earlier
        )
        assert seen.side_of(photo) == "train"

    def test_photos_without_classes(self, folder):
        classifier = tiny.classifier(NAMES)
        records, notices = reported(folder / "blast", classifier)
        assert ([record.label for record in records], notices) == (["blast"] * 2, ())
        assert len(reported(folder / "blast" / "0000.png", classifier)[0]) == 1

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_split_that_is_not_there(self, folder, split):
        with pytest.raises(UsageError, match=split):
            reported(folder, tiny.classifier(NAMES), split)


def test_evenly_over_the_whole_list():
    records = [Record(Path(str(i)), None) for i in range(10)]
    assert [record.path.name for record in evenly(records, 4)] == ["0", "3", "6", "9"]
    assert evenly(records, None) == evenly(records, 99) == records
    with pytest.raises(UsageError, match="limit of 0"):
        evenly(records, 0)


def test_one_a_class_is_the_first_in_order():
    records = [Record(Path(name), name[0]) for name in ("a1", "a2", "b1", "a3", "c1")]
    assert [record.path.name for record in one_a_class(records)] == ["a1", "b1", "c1"]
