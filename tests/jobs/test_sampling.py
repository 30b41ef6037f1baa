"""Which photos are audited: spread over all, those with masks preferred, and the same each time."""

import numpy as np
import pytest
from PIL import Image

import mitate
import seeing
from mitate.data.masks import MaskIndex
from mitate.data.records import Record
from mitate.errors import UsageError
from mitate.jobs.sampling import sample, shows_region

SETTINGS = {"methods": ("gradcam",), "layers": ("colours",), "metrics": ("energy",), "reasons": 0}


def tenth(number: int) -> bool:
    return number % 10 == 0


def test_three_quarters_of_a_sample_show_something():
    taken = sample(range(200), 16, tenth)
    assert sum(map(tenth, taken.chosen)) == 12
    assert len(set(taken.chosen)) == 16
    assert taken.chosen == sorted(taken.chosen)
    assert taken == sample(range(200), 16, tenth)
    (notice,) = taken.notices
    assert "12 of the 16 photos audited" in notice
    assert "20 of the 200" in notice


def test_both_parts_are_spread_over_the_whole():
    chosen = sample(range(200), 16, tenth).chosen
    showing, rest = [n for n in chosen if tenth(n)], [n for n in chosen if not tenth(n)]
    assert (showing[0], showing[-1]) == (0, 190)
    assert (rest[0], rest[-1]) == (1, 199)
    assert max(np.diff(showing)) <= 20
    assert max(np.diff(rest)) <= 70


def test_few_that_show_something_are_all_taken_and_the_rest_fills_up():
    chosen = sample(range(100), 20, lambda n: n in (3, 50, 98)).chosen
    assert {3, 50, 98} <= set(chosen)
    assert len(set(chosen)) == 20


@pytest.mark.parametrize(
    "shows",
    [lambda n: True, lambda n: False, lambda n: n % 10 != 0, None],
    ids=["all show", "none shows", "most show", "not known"],
)
def test_where_there_is_nothing_to_prefer_it_is_the_even_choice(shows):
    taken = sample(range(100), 10, shows)
    assert taken.chosen == sample(range(100), 10).chosen == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert taken.notices == (
        "10 of the 100 photos were taken, evenly chosen (--limit takes more): the accuracy is that "
        "of these",
    )


def test_nothing_is_looked_at_where_all_are_taken():
    def never(number: int) -> bool:
        raise AssertionError(number)

    for limit in (None, 10, 11):
        assert sample(range(10), limit, never).chosen == list(range(10))


def test_a_large_set_is_not_read_whole():
    asked = []
    sample(range(10_000), 4, lambda n: asked.append(n) or tenth(n))
    assert len(asked) == 64
    assert (asked[0], asked[-1]) == (0, 9_999)


def test_no_photo_is_no_sample():
    with pytest.raises(UsageError, match="limit of 0"):
        sample(range(10), 0, tenth)


def test_a_mask_shows_something_where_the_network_looks(tmp_path):
    photos, masks = seeing.photos(tmp_path, 4)
    Image.new("L", (32, 32)).save(masks / "red" / "000.png")
    Image.new("L", (3, 3), 255).save(masks / "blue" / "001.png")
    (photos / "red" / "broken.png").write_bytes(b"no picture")
    preprocessing = seeing.honest().preprocessing
    shows = shows_region(MaskIndex.open(masks), None, preprocessing)
    names = ["red/000.png", "blue/001.png", "red/002.png", "red/broken.png"]
    assert [shows(Record(photos / name, None)) for name in names] == [False, False, True, False]
    assert shows_region(None, None, preprocessing) is None


@pytest.fixture
def mostly_without(tmp_path):
    """Forty photos of which eight have a mask."""
    photos, masks = seeing.photos(tmp_path, 40, tinted=False)
    for path in masks.rglob("*.png"):
        if int(path.stem) % 5:
            path.unlink()
    return photos, masks


def test_an_audit_prefers_photos_with_masks_and_says_so(mostly_without):
    photos, masks = mostly_without
    done = mitate.audit(seeing.honest(), photos, masks=masks, limit=8, **SETTINGS)
    energy = done.standing("gradcam colours").scores["energy"].value
    assert (energy.images, energy.missing) == (6, 2)
    assert done.usage is not None
    assert done.usage.fall.images == 6
    assert any(line.startswith("6 of the 8 photos audited have a mask") for line in done.notices)
    again = mitate.audit(seeing.honest(), photos, masks=masks, limit=8, **SETTINGS)
    assert again.subjects.names == done.subjects.names


def test_tensors_are_chosen_alike():
    inputs, masks, labels = seeing.tensors(40, tinted=False)
    masks[[number for number in range(40) if number % 5]] = 0
    done = mitate.audit(seeing.honest(), inputs, masks=masks, labels=labels, limit=8, **SETTINGS)
    assert done.standing("gradcam colours").scores["energy"].value.images == 6
    assert any("6 of the 8" in line for line in done.notices)


def test_a_comparison_prefers_them_too(mostly_without):
    photos, masks = mostly_without
    done = mitate.compare(
        seeing.honest(), seeing.honest(), photos, masks=masks, limit=8,
        method="gradcam", layer="colours", metrics=("energy",),
    )  # fmt: skip
    found = next(one for one in done.differences if one.metric == "energy")
    assert found.first.images == 6
    assert any("6 of the 8" in line for line in done.notices)
