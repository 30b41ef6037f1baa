"""The program on real photos: leaves with symptoms, tiles with defects."""

import csv
from itertools import islice

import pytest
import torch

from mitate.data.masks import read_mask
from mitate.imports import timm
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing

pytestmark = pytest.mark.real
CONTROLS = ("random (control)", "centre (control)", "edges (control)")


@pytest.fixture(scope="module")
def imagenet(shared):
    return f"timm:mobilenetv2_100@{shared}/weights/mobilenetv2_100.imagenet1k.safetensors"


def marked(folder, value, number=2):
    """The first photos whose symptom or defect reaches into the middle of the photo."""
    with (folder / "index.csv").open(encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if row["mask"]]
    found = (folder / row["path"] for row in rows if in_the_middle(folder / row["mask"], value))
    return list(islice(found, number))


def in_the_middle(path, value):
    mask = read_mask(path, value=value)
    height, width = mask.shape
    return bool(mask[height // 3 : -height // 3, width // 3 : -width // 3].any())


@pytest.mark.parametrize(("name", "value"), [("coffee_leaf", 2), ("magnetic_tile", None)])
def test_shares_on_real_masks_stand_beside_the_controls(
    mitate, shared, imagenet, tmp_path, name, value
):
    folder = shared / "data" / name
    words = ["-o", tmp_path, "--masks", folder / "index.csv"]
    words += [] if value is None else ["--mask-value", value]
    done = mitate("explain", imagenet, *marked(folder, value), *words)
    assert done.code == 0, done.err
    assert "2 photos; the masks cover 0." in done.out
    assert all(control in done.out for control in ("gradcam", *CONTROLS))
    with (tmp_path / "energy.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    shares = [float(value) for row in rows for key, value in row.items() if key != "image"]
    assert len(shares) == 2 * (1 + 4)
    assert all(0 <= share <= 1 for share in shares)


@pytest.fixture(scope="module")
def convnext(tmp_path_factory):
    """A ConvNeXt as small as one can be made that still has its stages and names."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm().create_model("convnext_atto", num_classes=5, depths=(1, 1, 2, 1))
    classifier = Classifier(
        network.eval(),
        tuple("abcde"),
        Preprocessing((96, 96)),
        recipe={
            "kind": "timm",
            "name": "convnext_atto",
            "arguments": {"num_classes": 5, "depths": [1, 1, 2, 1]},
        },
    )
    return classifier.save(tmp_path_factory.mktemp("convnext") / "saved").folder


@pytest.mark.parametrize(
    ("layer", "name", "grid"),
    [
        ("stages.2.blocks.-1.conv_dw", "stages.2.blocks.1.conv_dw", (6, 6)),
        ("auto", "stages.3", (3, 3)),
    ],
)
def test_a_convnext_on_real_leaves(mitate, shared, convnext, tmp_path, layer, name, grid):
    from mitate import Explanation

    photos = marked(shared / "data" / "coffee_leaf", 2)
    done = mitate("explain", convnext, *photos, "-o", tmp_path, "--layer", layer, "-m", "gradcam")
    assert done.code == 0, done.err
    kept = Explanation.load(tmp_path / "maps" / "gradcam-001.npz")
    assert kept.layer.startswith(name)
    assert kept.maps.shape == (2, 3, *grid)


def test_a_small_classifier_learns_real_leaves_apart_from_the_rest(mitate, shared, tmp_path):
    """Twenty photos train, report and explain without a word of trouble; no accuracy is asked."""
    source = shared / "data" / "tomato10" / "train"
    for folder in sorted(source.iterdir())[:2]:
        place = tmp_path / "data" / folder.name
        place.mkdir(parents=True)
        for photo in sorted(folder.iterdir())[:10]:
            (place / photo.name).symlink_to(photo)
    words = ("--model", "test_convnext", "--weights", "none", "--epochs", 1, "--size", 64)
    done = mitate("train", tmp_path / "data", "-o", tmp_path / "out", *words, "--lr", 0.001)
    assert done.code == 0, done.err
    done = mitate("report", tmp_path / "out", tmp_path / "data", "-o", tmp_path / "r.html")
    assert done.code == 0, done.err
    assert "4 photos that training set aside" in (tmp_path / "r.html").read_text("utf-8")
