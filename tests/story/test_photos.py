import numpy as np
import pytest

from mitate.data.decoding import read_image
from mitate.data.paddy import CLASSES
from mitate.story import photos


def test_the_photos_without_a_date_are_the_same_but_for_the_date(short, tmp_path):
    drawn = photos.drawn(tmp_path, 0)
    region = photos.STAMP.region(64)
    for dated, plain in zip(drawn.judged, drawn.plain, strict=True):
        assert (dated.label, dated.path.name) == (plain.label, plain.path.name)
        pair = (np.asarray(read_image(one.path), float) for one in (dated, plain))
        apart = np.abs(np.subtract(*pair)).max(2)
        if dated in drawn.dated:
            assert apart[region].max() > 60
            assert apart[:32].max() == 0
        else:
            assert apart.max() == 0
    assert [record.label for record in drawn.dated] == ["blast"]  # 80 % of two, rounded down


@pytest.mark.parametrize("split", ["train", "valid"])
def test_masks_of_a_part_of_each_class(short, tmp_path, monkeypatch, split):
    monkeypatch.setattr(photos, "MASKED", 0.5)
    stamped = photos.drawn(tmp_path, 0).stamped
    masks = photos.some_masks(stamped)
    records = stamped.split(split).records
    assert all(
        2 * sum(record.label == name and record.path in masks.paths for record in records)
        == sum(record.label == name for record in records)
        for name in CLASSES
    )
