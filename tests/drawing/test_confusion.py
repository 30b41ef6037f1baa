import io

import numpy as np
import pytest
from PIL import Image

from mitate.drawing.confusion import draw_confusion
from mitate.drawing.fonts import MissingGlyphWarning
from mitate.drawing.sheet import encode


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def names(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_counts_stand_in_their_cells():
    figure = draw_confusion([[8, 2], [0, 5]], ["blast", "normal"])
    placed = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert placed == {(0, 0): "8", (1, 0): "2", (1, 1): "5"}
    assert names(figure) == ["blast", "normal"]


def test_the_tint_is_the_share_of_the_row():
    shares = draw_confusion([[3, 1], [0, 0]], ["a", "b"]).axes[0].images[0].get_array()
    assert shares.tolist() == [[0.75, 0.25], [0, 0]]


def test_dollars_are_letters():
    figure = draw_confusion([[1, 0], [0, 1]], [r"$\frac{1$", "b_$c$"])
    encode(figure, "png")
    assert names(figure)[1] == "b_$c$"


def test_characters_without_a_font_are_told_and_spelt():
    with pytest.warns(MissingGlyphWarning):
        figure = draw_confusion([[1, 0], [0, 1]], ["\U000f0043", "b"])
    assert names(figure)[0] == "U+F0043"


@pytest.mark.parametrize("number", [1, 2, 10, 60, 150])
def test_names_stay_on_the_paper(number):
    figure = draw_confusion(
        np.eye(number, dtype=int).tolist(), [f"a long name {i} " * 9 for i in range(number)]
    )
    encode(figure, "png")
    axes = figure.axes[0]
    boxes = [t.get_window_extent() for t in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    boxes += [t.get_window_extent() for t in figure.texts]
    assert min(min(box.x0, box.y0) for box in boxes) >= 0


@pytest.mark.parametrize("number", [100, 1000])
def test_many_classes_fit_on_a_sane_picture(number):
    content = encode(
        draw_confusion(np.eye(number, dtype=int).tolist(), [f"class {i}" for i in range(number)]),
        "png",
    )
    assert max(Image.open(io.BytesIO(content)).size) < 3000


def test_too_many_classes_for_words_are_said_to_be():
    figure = draw_confusion(np.eye(300, dtype=int).tolist(), ["a"] * 300)
    assert not words(figure)
    assert "300 classes" in figure.axes[0].get_title()


def test_long_counts_are_written_smaller():
    figure = draw_confusion([[123456, 0], [0, 7]], ["a", "b"])
    large, small = (text.get_size() for text in figure.axes[0].texts)
    assert large < small
