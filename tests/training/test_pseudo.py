import json
import math

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import tiny
from mitate.data.dataset import read_dataset
from mitate.data.decoding import image_size, read_image
from mitate.data.masks import MaskIndex
from mitate.data.regions import open_masks
from mitate.errors import DataError, UsageError
from mitate.explain.explainer import Explainer
from mitate.models.preprocessing import Preprocessing
from mitate.training.pseudo import THRESHOLDS, make_masks
from mitate.training.superpixels import averaged

NAMES = ("blast", "いもち病")


@pytest.fixture
def explainer():
    return Explainer(tiny.classifier(), "layercam", "stages.1 + stages.2")


@pytest.fixture
def dataset(tmp_path):
    return read_dataset(tiny.photos(tmp_path / "photos", dict.fromkeys(NAMES, 3)))


def test_a_mask_is_its_map_from_the_threshold_on(explainer, dataset, tmp_path):
    done = make_masks(explainer, dataset, tmp_path / "out", threshold=0.6, shown=False)
    assert (done.number, done.threshold, done.judged, done.dice) == (6, 0.6, 0, None)
    record = dataset.records[0]
    size = image_size(record.path)
    with Image.open(tmp_path / "out" / "masks" / "blast" / "0000.png") as image:
        drawn = np.asarray(image)
    assert set(np.unique(drawn)) == {0, 255}
    assert drawn.shape == size[::-1]
    explanation = explainer([record.path], targets=[0])
    heat = explanation.heat(0, 0, (64, 64), "bilinear")
    own = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))
    own = own / heat.max() >= 0.6
    assert ((drawn > 0) == own).mean() > 0.99


def test_coco_and_png_say_the_same_and_are_read_by_training(explainer, dataset, tmp_path):
    make_masks(explainer, dataset, tmp_path / "out", shown=False)
    content = json.loads((tmp_path / "out" / "instances.json").read_text("utf-8"))
    assert [entry["name"] for entry in content["categories"]] == list(NAMES)
    assert len(content["images"]) == 6
    pictures, coco = (
        open_masks(tmp_path / "out" / "masks"),
        open_masks(tmp_path / "out" / "instances.json"),
    )
    for record in dataset.records:
        size = image_size(record.path)
        assert np.array_equal(pictures.read(record.path, size), coco.read(record.path, size))
    entry = content["annotations"][0]
    mask = pictures.read(dataset.records[0].path, (40, 30))
    assert entry["area"] == mask.sum()
    left, top, width, height = (int(side) for side in entry["bbox"])
    assert mask[top : top + height, left : left + width].sum() == mask.sum()


def test_the_threshold_of_the_best_dice_is_taken(explainer, dataset, tmp_path):
    """The truth is what lies above 0.3 of each map."""
    truth = make_masks(explainer, dataset, tmp_path / "true", threshold=0.3, shown=False)
    masks = MaskIndex.open(truth.folder / "masks")
    done = make_masks(explainer, dataset, tmp_path / "out", masks=masks, shown=False)
    assert done.threshold == pytest.approx(0.3)
    assert done.judged == 6
    assert done.dice == done.iou == 1
    other = make_masks(
        explainer, dataset, tmp_path / "other", masks=masks, threshold=0.6, shown=False
    )
    assert other.threshold == 0.6
    assert 0 < other.dice < 1
    assert other.iou == pytest.approx(other.dice / (2 - other.dice))


def test_of_too_few_masks_the_threshold_is_taken_but_not_judged(explainer, dataset, tmp_path):
    truth = make_masks(explainer, dataset, tmp_path / "true", threshold=0.3, shown=False)
    for path in sorted((truth.folder / "masks").rglob("*.png"))[3:]:
        path.unlink()
    masks = MaskIndex.open(truth.folder / "masks")
    done = make_masks(explainer, dataset, tmp_path / "out", masks=masks, shown=False)
    assert (done.judged, done.dice) == (3, None)
    assert done.threshold in THRESHOLDS


def test_classes_with_nothing_to_mark(explainer, dataset, tmp_path):
    make_masks(explainer, dataset, tmp_path / "out", empty=["blast"], shown=False)
    masks = open_masks(tmp_path / "out" / "masks")
    for record in dataset.records:
        assert masks.read(record.path, (40, 30)).any() == (record.label != "blast")


def test_bad_photos_are_told(explainer, dataset, tmp_path):
    dataset.records[1].path.write_text("no picture")
    done = make_masks(explainer, dataset, tmp_path / "out", shown=False)
    assert done.number == 5
    assert "not a picture" in done.failures[0]
    json.dumps(done.as_dict())


def test_two_photos_of_one_name_are_told(explainer, dataset, tmp_path):
    path = dataset.records[0].path
    with Image.open(path) as image:
        image.save(path.with_suffix(".bmp"))
    with pytest.raises(DataError, match=r"would have one mask, blast.0000\.png: rename"):
        make_masks(explainer, read_dataset(tmp_path / "photos"), tmp_path / "out", shown=False)


@pytest.mark.parametrize("threshold", [0.0, 1.1, math.nan])
def test_thresholds_that_cannot_be_used(explainer, dataset, tmp_path, threshold):
    with pytest.raises(UsageError, match="threshold"):
        make_masks(explainer, dataset, tmp_path / "out", threshold=threshold, shown=False)
    with pytest.raises(UsageError, match="healthy is no class"):
        make_masks(explainer, dataset, tmp_path / "out", empty=["healthy"], shown=False)


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (64, 64)])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_values_go_back_to_where_a_mask_came_from(resize, size):
    preprocessing = Preprocessing((96, 128), resize, 0.9 if resize != "pad" else 1.0)
    width, height = size
    mask = np.zeros((height, width), bool)
    mask[height // 3 : height // 2, width // 3 : 2 * width // 3] = True
    back = preprocessing.restored(preprocessing.mask(mask), size) >= 0.5
    assert back.shape == mask.shape
    assert (back & mask).sum() / (back | mask).sum() > 0.85


@pytest.mark.parametrize("superpixels", [False, True])
def test_maps_may_be_averaged_over_superpixels_before_the_threshold(
    explainer, dataset, tmp_path, superpixels
):
    """What is marked is the averaged map from the threshold on."""
    done = make_masks(
        explainer, dataset, tmp_path / "out", threshold=0.6, superpixels=superpixels, shown=False
    )
    masks = open_masks(done.folder / "masks")
    record = dataset.records[0]
    size = image_size(record.path)
    preprocessing = explainer.classifier.preprocessing
    heat = explainer([record.path], targets=[0]).heat(0, 0, preprocessing.size, "bilinear")
    if superpixels:
        heat = averaged(heat, preprocessing.pixels(read_image(record.path)))
    own = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))
    own = own / heat.max() >= 0.6
    assert ((masks.read(record.path, size) > 0) == own).mean() > 0.99


def test_masks_corrected_by_hand_are_kept(explainer, dataset, tmp_path):
    out = tmp_path / "out"
    make_masks(explainer, dataset, out, threshold=0.6, shown=False)
    corrected, redrawn, resaved = (out / "masks" / "blast" / f"000{n}.png" for n in range(3))
    with Image.open(corrected) as image:
        about, drawn = image.text, np.asarray(image).copy()
    drawn[:5] = 255 - drawn[:5]
    info = PngInfo()
    for name, text in about.items():
        info.add_text(name, text)  # an editor that keeps what it does not know
    Image.fromarray(drawn).save(corrected, pnginfo=info)
    Image.fromarray(255 - drawn).convert("RGB").save(redrawn)
    with Image.open(resaved) as image:
        Image.fromarray(np.asarray(image)).save(resaved)
    contents = [path.read_bytes() for path in (corrected, redrawn, resaved)]

    same = make_masks(explainer, dataset, out, threshold=0.6, shown=False)
    assert (same.number, same.kept) == (4, ("blast/0000.png", "blast/0001.png"))
    done = make_masks(explainer, dataset, out, threshold=0.3, shown=False)
    names = ("blast/0000.png", "blast/0001.png", "blast/0002.png")
    assert (done.number, done.kept) == (3, names)
    assert [path.read_bytes() for path in (corrected, redrawn, resaved)] == contents
    pictures, coco = open_masks(out / "masks"), open_masks(out / "instances.json")
    for record in dataset.records:
        size = image_size(record.path)
        assert np.array_equal(pictures.read(record.path, size), coco.read(record.path, size))
    corrected.unlink()
    assert make_masks(explainer, dataset, out, threshold=0.3, shown=False).kept == names[1:]


def test_a_damaged_mask_is_told_and_left(explainer, dataset, tmp_path):
    out = tmp_path / "out"
    place = out / "masks" / "blast" / "0000.png"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half a picture")
    done = make_masks(explainer, dataset, out, shown=False)
    assert done.number == 5
    (told,) = done.failures
    assert "0000.png is not a picture" in told
    assert place.read_bytes() == b"half a picture"


@pytest.mark.parametrize(
    "change", [lambda told: told["annotations"].pop(), lambda told: told.pop("info")]
)
def test_instances_that_were_corrected_are_not_written_over(explainer, dataset, tmp_path, change):
    make_masks(explainer, dataset, tmp_path, shown=False)
    make_masks(explainer, dataset, tmp_path, shown=False)
    place = tmp_path / "instances.json"
    content = json.loads(place.read_text("utf-8"))
    change(content)
    place.write_text(json.dumps(content), "utf-8")
    with pytest.raises(DataError, match="is not as it was made .*, and would be written over"):
        make_masks(explainer, dataset, tmp_path, shown=False)
    assert json.loads(place.read_text("utf-8")) == content


def test_a_corrected_mask_of_another_size_is_told_and_left(explainer, dataset, tmp_path):
    out = tmp_path / "out"
    make_masks(explainer, dataset, out, shown=False)
    place = out / "masks" / "blast" / "0000.png"
    Image.new("L", (20, 15), 255).save(place)
    done = make_masks(explainer, dataset, out, shown=False)
    (told,) = done.failures
    assert "is 20x15 px and its photo 40x30: a mask has the size of its photo" in told
    assert done.kept == ()
    with Image.open(place) as image:
        assert image.size == (20, 15)


def test_the_folder_of_masks_may_be_named_by_the_one_around_it(explainer, dataset, tmp_path):
    make_masks(explainer, dataset, tmp_path / "out", shown=False)
    masks = MaskIndex.open(tmp_path / "out")
    assert all(masks.find(record.path) for record in dataset.records)


def test_a_map_of_zeros_makes_no_mask(dataset, tmp_path):
    """An empty mask would say that there is nothing to see on the photo."""
    classifier = tiny.classifier()
    weight = classifier.network.head.fc.weight
    weight.data[0] = 0  # of the class blast, which nothing moves then
    explainer = Explainer(classifier, "layercam", "stages.1 + stages.2")
    done = make_masks(explainer, dataset, tmp_path / "out", shown=False)
    told = [line for line in done.failures if "its map is zero everywhere" in line]
    assert len(told) == 3
    assert all("blast" in line for line in told)
    content = json.loads((tmp_path / "out" / "instances.json").read_text("utf-8"))
    assert {entry["file_name"].split("/")[0] for entry in content["images"]} == {"いもち病"}
    assert not (tmp_path / "out" / "masks" / "blast").exists()


def test_maps_of_zeros_alone_make_none(dataset, tmp_path):
    classifier = tiny.classifier()
    classifier.network.head.fc.weight.data.zero_()
    done = make_masks(Explainer(classifier, "gradcam"), dataset, tmp_path / "out", shown=False)
    assert (done.number, len(done.failures)) == (0, 6)
