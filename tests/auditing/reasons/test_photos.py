from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mitate.auditing.reasons import find_reasons
from mitate.auditing.reasons.photos import images_of
from mitate.data.masks import MaskIndex
from mitate.data.records import Record
from mitate.errors import ImageError, TargetError, UsageError

SIDE = 32


@pytest.fixture
def folder(planted, tmp_path: Path) -> Path:
    """The planted images as photos, with the masks of all but the first."""
    (tmp_path / "masks").mkdir()
    pixels = (planted.images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number:02}.png")
        if number:
            mask = (planted.masks[number].numpy() * 255).astype(np.uint8)
            Image.fromarray(mask).save(tmp_path / "masks" / f"{number:02}.png")
    return tmp_path


def records_of(folder, planted):
    names = planted.classifier.class_names
    return [
        Record(folder / f"{number:02}.png", names[label])
        for number, label in enumerate(planted.labels)
    ]


def test_records_give_what_tensors_give(planted, folder):
    masks = MaskIndex.open(folder / "masks")
    images = images_of(planted.classifier, records_of(folder, planted), masks=masks)
    batch = images.read([31, 0, 5])
    assert batch.numbers == (31, 0, 5)
    assert torch.allclose(batch.inputs, planted.images[[31, 0, 5]], atol=1 / 255)
    assert torch.equal(batch.masks[[0, 2]], planted.masks[[31, 5]])
    assert batch.masks[1].isnan().all()
    assert images.labels == planted.labels
    assert images.names[31] == str(folder / "31.png")


def test_what_cannot_be_read_is_told_and_left_out(planted, folder):
    (folder / "00.png").unlink()
    (folder / "20.png").write_bytes(b"nothing")
    Image.new("L", (8, 8)).save(folder / "masks" / "30.png")
    records = records_of(folder, planted)
    masks = MaskIndex.open(folder / "masks")
    reasons = find_reasons(
        planted.classifier, records, planted.explainer(), masks=masks, shown=False
    )
    assert reasons.images == 42  # one of them without its mask
    assert len(reasons.failures) == 3
    assert "a mask has the size of its photo" in reasons.failures[2]
    (group,) = reasons.found
    assert set(group.members) == set(range(12, 32)) - {20}
    assert group.names[0] == str(folder / "12.png")


def test_photos_are_named_from_a_folder(planted, folder):
    records = [*records_of(folder, planted), Record(folder.parent / "other.png", None)]
    images = images_of(planted.classifier, records, root=folder)
    assert images.names[31] == "31.png"
    assert images.names[-1] == str(folder.parent / "other.png")


def test_nothing_that_can_be_read_is_an_error(planted, folder):
    records = [Record(folder / "none.png", "plain")]
    with pytest.raises(ImageError, match="none of the images"):
        find_reasons(planted.classifier, records, planted.explainer(), shown=False)
    assert images_of(planted.classifier, records).read([0]) is None


def test_labels_that_are_no_class_are_unknown_and_given_ones_replace_them(planted, folder):
    records = [Record(folder / "00.png", "rust"), Record(folder / "01.png", None)]
    assert images_of(planted.classifier, records).labels == (-1, -1)
    assert images_of(planted.classifier, records, labels=["stamped", 2]).labels == (1, 2)
    with pytest.raises(TargetError, match="no class"):
        images_of(planted.classifier, records, labels=["rust", "plain"])


def test_masks_of_the_other_kind_are_refused(planted, folder):
    records, masks = records_of(folder, planted), MaskIndex.open(folder / "masks")
    with pytest.raises(UsageError, match="open_masks"):
        images_of(planted.classifier, records, masks=planted.masks)
    with pytest.raises(UsageError, match="a tensor"):
        images_of(planted.classifier, planted.images, masks=masks)
