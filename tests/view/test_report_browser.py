"""The report in a real browser: from disk, without a network, in both lights and on a phone."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from mitate.view.report import (
    Case,
    ClassScores,
    EnergyRow,
    MapPicture,
    Report,
    write_report,
)

PHONE = {"width": 390, "height": 844}
NAMES = (
    "blast",
    "いもち病",
    "<img src=x onerror=alert(1)>",
    "Tomato___Spider_mites Two-spotted_spider_mite",
    *(f"class_{i}" for i in range(8)),
)

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write_report(report(), tmp_path_factory.mktemp("report") / "report 報告.html").as_uri()


@pytest.fixture
def open_page(visit, address):
    return partial(visit, address)


def report():
    grey = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    photo, heat = Image.fromarray(grey), Image.fromarray(grey[:14, :14])
    maps = tuple(
        MapPicture(method, "stages.2.blocks.-1.conv_dw", name, 0.5, heat, "the map is zero")
        for method in ("Grad-CAM", "Score-CAM")
        for name in NAMES[1:4]
    )
    wrong = Case("a_very_long_file_name_" * 5 + ".jpg", photo, NAMES[1], NAMES[2], 0.9, maps)
    right = Case("b.jpg", photo, NAMES[2], NAMES[2], 0.9, maps)
    return Report(
        title="Paddy",
        subtitle="Twelve classes",
        facts=(("data", "/a/very/long/path" * 9),),
        accuracy=0.9,
        macro_f1=0.9,
        classes=tuple(ClassScores(name, 0.9, 0.9, 0.9, 10) for name in NAMES),
        confusion=tuple(tuple(10 * (a == b) for a in range(12)) for b in range(12)),
        class_names=NAMES,
        cases=(wrong, right),
        energy=(
            EnergyRow("Grad-CAM", "stages.2.blocks.-1.conv_dw", 0.4, 0.3, 0.5, False),
            EnergyRow("centre", "", 0.35, 0.3, 0.4, True),
        ),
        curve=((1, 2.0, 1.0, 0.5), (2, 1.0, 0.5, 0.9)),
        notices=("One image could not be read.",),
    )


def css(page, selector, name):
    return page.eval_on_selector(selector, f"e => getComputedStyle(e).{name}")


def lightness(colour):
    """The share of light in what the browser calls ``rgb(1, 2, 3)``."""
    return sum(map(float, colour.strip("rgba()").split(",")[:3])) / 765


def test_every_picture_is_decoded(open_page):
    page = open_page()
    widths = page.evaluate(
        """async () => Promise.all([...document.querySelectorAll("image")].map(async (image) => {
            const decoded = new Image();
            decoded.src = image.href.baseVal;
            await decoded.decode();
            return decoded.naturalWidth;
        }))"""
    )
    assert len(widths) == 14
    assert set(widths) == {80, 14}


def test_names_are_text_and_never_markup(open_page):
    page = open_page()
    assert page.locator("img").count() == 0
    assert NAMES[2] in page.locator("#classes").inner_text()


def test_one_slider_for_all_maps(open_page):
    page = open_page()
    assert css(page, ".heat", "opacity") == "0.5"
    page.locator("#opacity").focus()
    page.keyboard.press("End")
    opacities = page.eval_on_selector_all(".heat", "es => es.map(e => getComputedStyle(e).opacity)")
    assert set(opacities) == {"1"}
    assert page.locator("#opacity-value").inner_text() == "100 %"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_scheme_of_the_system_and_the_toggle(open_page, scheme):
    page = open_page(color_scheme=scheme)
    dark = lightness(css(page, "body", "backgroundColor")) < 0.5
    assert dark == (scheme == "dark")
    page.locator("#theme").click()
    assert (lightness(css(page, "body", "backgroundColor")) < 0.5) != dark
    page.reload()
    assert (lightness(css(page, "body", "backgroundColor")) < 0.5) != dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_are_readable_on_their_tint(open_page, scheme):
    page = open_page(color_scheme=scheme)
    for cell in (".confusion .hit", ".confusion .none"):
        drawn = page.eval_on_selector(
            cell,
            """e => {
                const ink = getComputedStyle(e), paper = getComputedStyle(document.body);
                const options = {willReadFrequently: true};
                const canvas = new OffscreenCanvas(1, 1).getContext("2d", options);
                return [[paper.backgroundColor, ink.backgroundColor], [ink.color]].map((layers) => {
                    layers.forEach((c) => { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); });
                    return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
                });
            }""",
        )
        assert contrast(*drawn) >= 4.5


def contrast(first, second):
    """The contrast of two colours as WCAG 2 defines it."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    shares = np.array(colour) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_a_phone_scrolls_downwards_only(open_page):
    page = open_page(viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    tables = page.eval_on_selector_all(".wide", "es => es.map(e => e.scrollWidth > e.clientWidth)")
    assert any(tables)


def test_a_picture_is_enlarged_and_put_back_by_keyboard(open_page):
    page = open_page()
    page.locator(".look").nth(1).focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#large")
    assert dialog.is_visible()
    assert "Grad-CAM" in dialog.inner_text()
    page.keyboard.press("ArrowLeft")
    assert "Grad-CAM" not in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.wait_for_function("document.activeElement === document.querySelector('.look')")


def test_right_and_wrong_can_be_shown_alone(open_page):
    page = open_page()
    page.get_by_label("wrong", exact=True).check()
    assert page.locator(".case:visible").count() == 1
    assert "wrong" in page.locator(".case:visible").inner_text()
    page.locator(".look:visible").first.click()
    shown = page.locator(".look:visible").count()
    captions = set()
    for _ in range(shown + 1):
        captions.add(page.locator("#large p").inner_text())
        page.keyboard.press("ArrowRight")
    assert len(captions) <= shown
    page.keyboard.press("Escape")
    told = page.eval_on_selector_all(
        ".look", "es => es.filter(e => e.getClientRects().length)"
        ".map(e => e.closest('.panel').dataset.caption)"
    )  # fmt: skip
    assert captions <= set(told)
    page.get_by_label("all", exact=True).check()
    assert page.locator(".case:visible").count() == 2


def test_everything_but_the_tools_is_readable_without_script(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("h1").inner_text() == "Paddy"
    assert page.locator(".case:visible").count() == 2
    assert not page.locator("#theme").is_visible()


def test_print_leaves_the_tools_out(open_page):
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print")
    assert lightness(css(page, "body", "backgroundColor")) == 1
    assert not page.locator(".tools").is_visible()


def test_a_matrix_of_forty_classes_fits_the_paper(visit, tmp_path):
    names = tuple(f"a class of rather long name {number}" for number in range(40))
    matrix = tuple(tuple(row) for row in (123 * np.eye(40, dtype=int)).tolist())
    made = replace(report(), class_names=names, confusion=matrix)
    write_report(made, tmp_path / "report.html")
    page = visit((tmp_path / "report.html").as_uri(), viewport={"width": 794, "height": 1123})
    page.emulate_media(media="print")
    right, width = page.evaluate(
        "[Math.max(...[...document.querySelectorAll('.confusion td')]"
        ".map(e => e.getBoundingClientRect().right)), document.documentElement.clientWidth]"
    )
    assert 0.9 * width < right <= width
