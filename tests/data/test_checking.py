from pathlib import Path

import pytest

from mitate.data.checking import check_dataset
from mitate.data.dataset import read_dataset
from mitate.errors import DataError


def test_sound_data_is_left_as_it_is(tree) -> None:
    dataset = read_dataset(tree({"a": 70, "b": 2}))
    seen: list[tuple[int, int]] = []
    assert (
        check_dataset(dataset, progress=lambda done, total: seen.append((done, total))) == dataset
    )
    assert seen == [(i, 72) for i in range(1, 73)]


def test_broken_images_are_left_out_and_told(tree) -> None:
    root = tree({"a": 8, "b": 1})
    for i in range(5):
        (root / "a" / f"{i}.png").write_text("no picture")
    checked = check_dataset(read_dataset(root))
    assert [r.path.name for r in checked.records] == ["5.png", "6.png", "7.png", "0.png"]
    (notice,) = checked.notices
    assert notice.startswith("5 images cannot be read, left out: a/0.png, a/1.png, a/2.png and 2 m")
    assert "0.png is not a picture" in notice


def test_class_without_a_readable_image(tree) -> None:
    root = tree({"a": 2, "b": 1})
    (root / "b" / "0.png").write_bytes(b"")
    checked = check_dataset(read_dataset(root))
    assert checked.class_names == ("a",)
    assert checked.notices[-1] == "Classes left without a readable image are left out: b."


def test_image_that_went_away(tree) -> None:
    root = tree({"a": 2})
    dataset = read_dataset(root)
    (root / "a" / "0.png").unlink()
    assert "does not exist" in check_dataset(dataset).notices[0]


def test_nothing_can_be_read(tree) -> None:
    root = tree({"a": 1})
    Path(root / "a" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"None of the images .* empty"):
        check_dataset(read_dataset(root))


def test_interruption_comes_through(tree) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_dataset(read_dataset(tree({"a": 3})), progress=interrupt)
