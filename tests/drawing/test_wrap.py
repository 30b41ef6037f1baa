import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.drawing.fonts import lettering_for
from mitate.drawing.wrap import wrap

LONG = "Tomato___Spider_mites Two-spotted_spider_mite"


def broken(text, width=1.6, size=9.0, lines=2):
    return wrap(text, width, size, lettering_for([text]), lines=lines)


def test_a_short_text_is_one_line():
    assert broken("blast") == ("blast",)


def test_nothing_is_no_line():
    assert broken("") == ()
    assert broken(" \n ") == ()


def test_breaks_follow_spaces_and_separators():
    first, second = broken(LONG, width=2.2)
    assert first + second == LONG
    assert first[-1] in "_-"


def test_what_is_left_over_becomes_an_ellipsis():
    lines = broken(LONG + " on the underside of the leaf", width=1.2)
    assert len(lines) == 2
    assert lines[-1].endswith("…")


def test_a_word_without_any_break_is_cut_anywhere():
    lines = broken("Pneumonoultramicroscopicsilicovolcanoconiosis", width=1.0, lines=9)
    assert "".join(lines) == "Pneumonoultramicroscopicsilicovolcanoconiosis"


def test_japanese_breaks_between_signs():
    text = "正" * 30
    assert len(broken(text, width=0.8, lines=20)) > 2


def test_a_width_for_nothing_still_ends():
    assert broken("blast", width=0.0, lines=3) == ("b", "l", "…")


@pytest.mark.parametrize("lines", [1, 2, 3])
@settings(deadline=None)
@given(text=st.text(max_size=40))
def test_every_line_fits_and_no_line_is_too_many(lines, text):
    letters = lettering_for([text, "…"])
    result = wrap(text, 1.5, 9.0, letters, lines=lines)
    assert len(result) <= lines
    assert all(letters.width(line, 9.0) <= 1.5 for line in result)
