import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mitate.view.report import (
    Case,
    ClassScores,
    EnergyRow,
    MapPicture,
    Report,
    render_report,
    write_report,
)

EVIL = "<script>alert('1')</script>\" onload=\"x"
NAMES = ("blast", "いもち病", EVIL)


def photo(width=64, height=48, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def case(name="a.jpg", true="blast", predicted="blast", probability=0.9, flag=""):
    maps = tuple(
        MapPicture(method, "stages.2", of, 0.5, photo(14, 14), flag)
        for method in ("Grad-CAM", "Score-CAM")
        for of in NAMES
    )
    return Case(name, photo(), true, predicted, probability, maps)


def full():
    return Report(
        title=f"Paddy {EVIL}",
        subtitle="Ten classes",
        facts=(("architecture", "convnext_atto"), ("data", EVIL)),
        accuracy=0.9312,
        macro_f1=0.9251,
        classes=tuple(ClassScores(name, 0.9, 0.8, 0.85, 10) for name in NAMES),
        confusion=((8, 2, 0), (0, 10, 0), (0, 1, 9)),
        class_names=NAMES,
        cases=(
            case("sure.jpg", "blast", "いもち病", 0.99),
            case("unsure.jpg", "blast", "いもち病", 0.4),
            case("right.jpg"),
            case(EVIL, EVIL, EVIL, flag="the map is zero"),
        ),
        energy=(
            EnergyRow("Grad-CAM", "stages.2", 0.42, 0.37, 0.47, False),
            EnergyRow("Score-CAM", "auto", 0.18, 0.16, 0.21, False),
            EnergyRow("centre", "", 0.19, 0.17, 0.21, True),
        ),
        curve=((1, 2.0, 1.9, 0.4), (2, 1.0, float("nan"), 0.7), (3, 0.5, 0.8, 0.93)),
        notices=("3 images could not be read.",),
        region="the lesions",
    )


class Page(HTMLParser):
    """The tags, their attributes and the text of a page."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag, **attributes):
        wanted = attributes.items()
        return [a for t, a in self.tags if t == tag and wanted <= a.items()]


@pytest.fixture(scope="module")
def html():
    return render_report(full())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_is_well_formed_and_says_its_language(html, page):
    assert html.lstrip().startswith("<!DOCTYPE html>")
    assert page.all("html", lang="en")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_photos_that_a_share_leaves_out_are_counted_where_there_are_any(page):
    assert "left out" not in page.text
    rows = (
        EnergyRow("Grad-CAM", "stages.2", 0.42, 0.37, 0.47, False, left_out=7),
        EnergyRow("centre", "", 0.19, 0.17, 0.21, True),
    )
    told = Page(render_report(Report("t", energy=rows)))
    assert "is left out of that method's share" in told.text
    assert "95 % interval left out drawn verdict Grad-CAM" in told.text
    assert "47.0 % 7 " in told.text
    assert "21.0 % 0 " in told.text


def test_the_maps_begin_at_the_opacity_that_was_asked_for():
    page = Page(render_report(dataclasses.replace(full(), opacity=0.25)))
    assert page.all("html", style="--opacity: 0.25")
    (slider,) = page.all("input", id="opacity")
    assert slider["value"] == "25"


def test_nothing_comes_from_outside(html, page):
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search(r"https?://", html)


def test_no_inline_handlers_and_one_script(page):
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]
    assert len(page.all("script")) == 1


def test_the_policy_allows_this_script_only(html, page):
    from base64 import b64encode
    from hashlib import sha256

    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    allowed = b64encode(sha256(script.encode()).digest()).decode()
    (policy,) = (a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert f"script-src 'sha256-{allowed}'" in policy
    assert "default-src 'none'" in policy


def test_class_names_are_data(page):
    assert page.text.count(EVIL) > 5
    assert "いもち病" in page.text


def test_the_key_numbers_and_findings(page):
    for words in (
        "93.1 %",
        "0.925",
        "images judged 30",
        "Weakest class: blast, recognised in 80.0 % of its images.",
        "Most often confused: blast taken for いもち病, 2 of 10.",
        "Grad-CAM has 42.0 % of its energy on the lesions; the best control, centre, 19.0 %.",
        "6 maps are flagged as not to be read.",
        "3 images could not be read.",
    ):
        assert words in page.text


def test_every_confusion_stands_in_its_cell(page):
    cells = page.all("td", **{"class": "hit"})
    assert [a["style"] for a in cells] == ["--share: 0.8000", "--share: 1.0000", "--share: 0.9000"]
    assert len(page.all("td", **{"class": "miss none"})) == 4
    assert [a["style"] for a in page.all("td", **{"class": "miss"})] == [
        "--share: 0.2000",
        "--share: 0.1000",
    ]


def test_maps_are_judged_beside_the_best_control(page):
    assert "better than the best control" in page.text
    assert "not better than the best control (centre, 19.0 %)" in page.text


def test_a_given_verdict_is_kept():
    row = EnergyRow("Grad-CAM", "a", 0.1, 0.0, 0.2, False, "too few masks to say")
    assert "too few masks to say" in render_report(Report("t", energy=(row,)))


def test_without_controls_there_is_no_verdict():
    row = EnergyRow("Grad-CAM", "a", 0.1, 0.0, 0.2, False)
    text = Page(render_report(Report("t", energy=(row,)))).text
    assert "better than the best control" not in text
    assert "Grad-CAM has 10.0 % of its energy on the marked region." in text


def test_wrong_ones_come_first_and_the_surest_of_them(html):
    assert html.index("sure.jpg") < html.index("unsure.jpg") < html.index("right.jpg")
    assert "✗ wrong" in html
    assert "✓ right" in html


def test_each_photo_is_embedded_once_and_each_map_once(page):
    embedded = [a for a in page.all("image") if a["href"].startswith("data:image/jpeg")]
    assert len(embedded) == 4 * (1 + 6)
    assert len(page.all("use")) == 4 * 6


def test_every_picture_says_what_it_is(page):
    labels = [a.get("aria-label") for a in page.all("svg", role="img")]
    assert all(labels)
    assert "Grad-CAM map for いもち病 over the photo right.jpg" in labels


def test_flags_stand_in_words(page):
    assert page.text.count("the map is zero") == 6


def test_the_curve_is_drawn_and_told(page):
    lines = page.all("polyline")
    assert [len(line["points"].split()) for line in lines] == [3, 2, 3]
    assert "2 1.000 – 70.0 %" in page.text


# The confusion matrix cannot do without the names.
OPTIONAL = {f.name for f in dataclasses.fields(Report)} - {"title", "class_names", "region"}


@pytest.mark.parametrize("field", sorted(OPTIONAL))
def test_any_part_may_be_left_out(field):
    empty = getattr(Report("t"), field)
    Page(render_report(dataclasses.replace(full(), **{field: empty})))


def test_a_title_alone_is_a_report():
    page = Page(render_report(Report("Only a title")))
    assert "Only a title" in page.text
    assert not page.all("table")
    assert not page.all("dialog")


def test_unlabelled_photos_have_a_gallery_and_no_scores():
    cases = (case("a.jpg", None), case("b.jpg", None, "いもち病"))
    page = Page(render_report(Report("t", cases=cases)))
    assert "no scores" in page.text
    assert page.text.count("no true class") == 2
    assert not page.all("fieldset")


def test_a_photo_without_maps_is_shown():
    bare = dataclasses.replace(case(), maps=())
    assert len(Page(render_report(Report("t", cases=(bare,)))).all("image")) == 1


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_a_dash(odd):
    report = Report(
        "t",
        accuracy=odd,
        macro_f1=odd,
        classes=(ClassScores("blast", odd, odd, odd, 0),),
        confusion=((0,),),
        class_names=("blast",),
        cases=(case(probability=odd), case("b.jpg", probability=0.5)),
        energy=(
            EnergyRow("Grad-CAM", "", odd, odd, odd, False),
            EnergyRow("x", "", *[odd] * 3, True),
        ),
        curve=((1, odd, odd, odd),),
    )
    page = Page(render_report(report))
    assert "–" in page.text
    assert not re.search(r"\b(nan|inf)\b", page.text)
    assert not page.all("polyline")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_pictures_of_any_mode_are_embedded(mode):
    shown = Case("a", photo().convert("L").convert(mode), None, "blast", 0.5)
    assert "data:image/jpeg;base64," in render_report(Report("t", cases=(shown,)))


def test_two_hundred_cases_stay_small():
    """The noise is smoothed until it weighs about what photos of leaves do."""
    large = photo(40, 30).resize((1600, 1200), Image.Resampling.BICUBIC)
    maps = tuple(MapPicture("m", "l", n, 0.3, photo(7, 7).resize((400, 300))) for n in "abc")
    one = render_report(Report("t", cases=(Case("a", large, None, "x", 0.5, maps),)))
    two = render_report(Report("t", cases=(Case("a", large, None, "x", 0.5, maps),) * 2))
    assert 200 * (len(two) - len(one)) < 10e6


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_report(Report("first"), tmp_path / "レポート 1.html")
    assert "first" in path.read_text(encoding="utf-8")
    monkeypatch.setattr("pathlib.Path.replace", _fail)
    with pytest.raises(OSError, match="disk"):
        write_report(Report("second"), path)
    assert "first" in path.read_text(encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == 1


def _fail(*_):
    raise OSError("disk full")


def test_odd_file_names_can_be_written(tmp_path):
    odd = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    path = write_report(Report("t", cases=(case(odd),)), tmp_path / "r.html")
    assert "caf" in path.read_text(encoding="utf-8")
