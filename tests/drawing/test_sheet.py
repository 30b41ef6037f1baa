import io
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mitate.drawing.fonts import MissingGlyphWarning
from mitate.drawing.layout import Columns
from mitate.drawing.sheet import DPI, MAX_ROWS, Panel, Row, draw_sheet, encode, save_sheet
from mitate.errors import UsageError

LONG = "Tomato___Spider_mites Two-spotted_spider_mite on the underside of an old leaf"
SHAPES = [(256, 256), (512, 256), (110, 400), (1, 1), (3000, 10), (10, 3000)]


def picture(width=64, height=64):
    return Image.new("RGB", (width, height), (30, 120, 50))


def row(panels=4, size=(64, 64), title="blast", name=""):
    return Row(tuple(Panel(title, picture(*size), "97.3 %  ✓ true") for _ in range(panels)), name)


def boxes(figure):
    """The extents of every text and of every picture, in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    (axes,) = figure.axes
    texts = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    pictures = [image.get_window_extent(renderer) for image in axes.images]
    return texts, pictures


def apart(first, second, slack=1.5):
    across = min(first.x1, second.x1) - max(first.x0, second.x0)
    down = min(first.y1, second.y1) - max(first.y0, second.y0)
    return across <= slack or down <= slack


def assert_tidy(figure):
    """Nothing overlaps and nothing leaves the paper."""
    texts, pictures = boxes(figure)
    for one, other in itertools.combinations(texts + pictures, 2):
        assert apart(one, other), (one, other)
    width, height = figure.get_size_inches() * figure.dpi
    for box in texts + pictures:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_row_is_drawn_with_its_words():
    figure = draw_sheet([row(3)], title="paddy", bar_label="relative")
    assert {"paddy", "blast", "97.3 % ✓ true", "relative", "0", "0.5", "1"} <= set(words(figure))
    assert len(figure.axes[0].images) == 4
    assert_tidy(figure)


@pytest.mark.parametrize("title", ["blast", LONG, "x" * 200, "正常" * 30])
@pytest.mark.filterwarnings("ignore::mitate.drawing.fonts.MissingGlyphWarning")
def test_titles_neither_overlap_nor_leave_the_paper(title):
    rows = [row(4, size, title, name=title) for size in SHAPES]
    assert_tidy(draw_sheet(rows, title=title, column_titles=["", title, title, "b"]))


def test_notes_stand_under_their_picture():
    warned = Panel("tungro", picture(), "0.1 %", "the map is zero: the layer sees no gradient")
    figure = draw_sheet([Row((warned, Panel("a", picture()))), row(2)])
    assert "the map is zero" in " ".join(words(figure))
    assert_tidy(figure)


def test_rows_may_differ_in_length_and_may_be_empty():
    assert_tidy(draw_sheet([row(1), Row(()), row(5), row(2)]))
    assert_tidy(draw_sheet([Row(())]))


@pytest.mark.parametrize("count", [1, 7, 50])
def test_the_scale_does_not_depend_on_the_number_of_rows(count):
    figure = draw_sheet([row(2) for _ in range(count)])
    _, pictures = boxes(figure)
    assert figure.dpi == DPI
    assert pictures[0].width == pytest.approx(2.2 * DPI, abs=1)


def test_pictures_keep_their_shape():
    for size in ((512, 256), (110, 400), (200, 200)):
        _, (shown, *_) = boxes(draw_sheet([row(1, size)]))
        assert shown.width / shown.height == pytest.approx(size[0] / size[1])


@pytest.mark.parametrize("count", [0, MAX_ROWS + 1])
def test_too_few_or_too_many_rows_are_refused(count):
    with pytest.raises(UsageError, match=str(count)):
        draw_sheet([row(1)] * count)


def test_without_a_colormap_there_is_no_bar():
    assert len(draw_sheet([row(2)], colormap=None).axes[0].images) == 2


def test_a_signed_bar_begins_at_minus_one():
    assert {"-1", "0", "1"} <= set(words(draw_sheet([row(1)], colormap="coolwarm", signed=True)))


def test_a_wrong_colormap_is_refused():
    with pytest.raises(UsageError, match="colormap"):
        draw_sheet([row(1)], colormap="viridus")


def test_equal_neighbours_share_a_heading():
    titles = ["", "Grad-CAM", "Grad-CAM", "Score-CAM", "Score-CAM"]
    assert Columns.of(5, 1.0, titles).blocks == ((1, 3, "Grad-CAM"), (3, 5, "Score-CAM"))
    figure = draw_sheet([row(5)], column_titles=titles)
    assert words(figure).count("Grad-CAM") == 1
    assert_tidy(figure)


def test_missing_characters_are_warned_about_once_and_spelt():
    sign = "\U000f0043"
    with pytest.warns(MissingGlyphWarning) as caught:
        figure = draw_sheet([row(3, title=f"blast {sign}")], title=sign)
    encode(figure, "png")
    assert len(caught) == 1
    assert "blast U+F0043" in words(figure)


def test_dollars_and_backslashes_are_only_letters():
    figure = draw_sheet([row(1, title=r"$\frac{1}{2$ 5_000$")])
    assert r"$\frac{1}{2$ 5_000$" in words(figure)
    encode(figure, "png")


def test_arrays_will_do_and_pictures_are_left_as_they_were():
    large = picture(2000, 1000)
    draw_sheet([Row((Panel("a", large), Panel("b", np.zeros((5, 9, 3), np.uint8))))])
    assert large.size == (2000, 1000)


def test_nothing_global_is_altered():
    import matplotlib

    before = dict(matplotlib.rcParams)
    encode(draw_sheet([row(1)]), "png")
    assert dict(matplotlib.rcParams) == before


def test_a_sheet_shows_itself_in_a_notebook():
    shown = Image.open(io.BytesIO(draw_sheet([row(1)])._repr_png_()))
    assert shown.format == "PNG"
    assert shown.width > 200


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.png", b"\x89PNG"),
        ("b.PDF", b"%PDF"),
        ("c.svg", b"<?xml"),
        ("d.jpg", b"\xff\xd8"),
        ("e 正.jpeg", b"\xff\xd8"),
    ],
)
def test_saved_by_suffix(tmp_path, name, start):
    path = save_sheet(draw_sheet([row(2)]), tmp_path / name)
    assert path.read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.png.txt"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.png, \.pdf, \.svg"):
        save_sheet(draw_sheet([row(1)]), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_sheet(draw_sheet([row(1)]), tmp_path / "a.png")
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", _fail)
    with pytest.raises(OSError, match="disk"):
        save_sheet(draw_sheet([row(2)]), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def _fail(*_):
    raise OSError("disk full")


def test_the_same_rows_give_the_same_bytes():
    for kind in ("png", "pdf"):
        assert encode(draw_sheet([row(2)]), kind) == encode(draw_sheet([row(2)]), kind)
