import unicodedata

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.font_manager import fontManager

from mitate.drawing import fonts
from mitate.drawing.fonts import MissingGlyphWarning, drawable, font_for, lettering_for, undrawable

# Private use: no real font stands in the way, whatever the machine has installed.
SIGNS = "\U000f0041\U000f0042"


@pytest.fixture
def sign_font(tmp_path, monkeypatch):
    """A font on the system that matplotlib has not heard of, with the two signs."""
    path = tmp_path / "signs.ttf"
    _build_font(path, "Signs for mitate", SIGNS)
    before = list(fontManager.ttflist)
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(path), str(tmp_path / "no.ttf")])
    fonts.forget()
    yield path
    fontManager.ttflist[:] = before
    fonts.forget()


def _build_font(path, name, characters):
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (500, 700), (500, 0)):
        pen.lineTo(point)
    pen.closePath()
    box = pen.glyph()
    glyphs = [".notdef", *(f"sign{i}" for i in range(len(characters)))]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({ord(c): g for c, g in zip(characters, glyphs[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(glyphs, box))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)


def test_latin_greek_and_cyrillic_need_no_other_font():
    lettering = lettering_for(["blast 97.3 %", "Bräune · ržavčina", "βλάστη", "пирикуляриоз ✓"])
    assert lettering.families == ("DejaVu Sans",)
    assert not lettering.missing


def test_what_no_font_has_is_named():
    assert undrawable(["fine", f"not {SIGNS}"]) == set(SIGNS)


def test_what_no_font_has_is_spelt():
    assert lettering_for([SIGNS]).spell(f"a{SIGNS} b") == "a U+F0041 U+F0042 b"


def test_a_font_installed_later_is_found(sign_font):
    lettering = lettering_for([f"blast {SIGNS}"])
    assert lettering.families == ("DejaVu Sans", "Signs for mitate")
    assert not lettering.missing
    assert lettering.spell(SIGNS) == SIGNS


def test_font_for_has_the_whole_chain(sign_font):
    assert font_for([SIGNS], size=7).get_family() == ["DejaVu Sans", "Signs for mitate"]


def test_japanese_is_drawn_where_there_is_a_font_and_spelt_where_not():
    lettering = lettering_for(["いもち病"])
    spelt = lettering.spell("いもち病")
    assert spelt == ("いもち病" if not lettering.missing else "U+3044 U+3082 U+3061 U+75C5")


def test_decomposed_names_are_composed():
    assert drawable(unicodedata.normalize("NFD", "ごま葉枯病 é")) == "ごま葉枯病 é"


def test_line_breaks_tabs_and_invisible_marks_go():
    assert drawable("a\n\tb\u200b\ufeff\ufe0f c\x00") == "a b c"


def test_fonts_of_boxes_do_not_count():
    assert not [n for n in fonts._families() if n.startswith(("Last", "cm", "STIXSize"))]


def test_a_warning_names_the_characters_and_the_remedy():
    with pytest.warns(MissingGlyphWarning, match="病.*fonts-noto-cjk"):
        fonts.warn_missing("病")


def test_surrogates_of_odd_file_names_can_be_spelt_and_told():
    odd = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    lettering = lettering_for([odd])
    assert lettering.spell(odd) == "caf U+DCE9 .jpg"
    with pytest.warns(MissingGlyphWarning, match=r"udce9"):
        fonts.warn_missing(lettering.missing)


def test_nothing_missing_is_no_warning():
    fonts.warn_missing("")


def test_width_grows_with_text_and_size():
    lettering = lettering_for(["m"])
    assert 0 == lettering.width("", 9) < lettering.width("m", 9) < lettering.width("mm", 9)
    assert lettering.width("mm", 18) == pytest.approx(2 * lettering.width("mm", 9), rel=0.01)


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_can_be_spelt_with_what_there_is(text):
    spelt = lettering_for([text]).spell(text)
    assert not lettering_for([spelt]).missing
