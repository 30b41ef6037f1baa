"""The audit part of the report in a real browser."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from mitate.view.contents import (
    AuditPart,
    Case,
    Cell,
    GroupCard,
    LeaderRow,
    MapPicture,
    MetricHead,
    Report,
    SegmentationPart,
    SegmentedRow,
)
from mitate.view.curve import step_chart
from mitate.view.report import write_report

PHONE = {"width": 390, "height": 844}
EVIL = "<img src=x onerror=alert(1)>"
NAMES = ("energy", "early deletion", *(f"metric {number}" for number in range(10)))

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write_report(report(), tmp_path_factory.mktemp("audit") / "report.html").as_uri()


@pytest.fixture
def open_page(visit, address):
    return partial(visit, address)


def report():
    grey = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    photo, heat = Image.fromarray(grey), Image.fromarray(grey[:14, :14])
    heads = tuple(MetricHead(name, name, "higher", "What it is.") for name in NAMES)
    good = Cell(0.4, 0.3, 0.5, True, "better than every control", "best control: 0.2")
    bad = Cell(0.1, 0.05, 0.15, False, "not better than a blob in the centre")
    none = Cell(float("nan"), float("nan"), float("nan"))
    rows = (
        row("hirescam", good, recommended=True),
        row("gradcam", bad, badges=("ignores the network",)),
        row("centre", Cell(0.2, 0.1, 0.3), control=True),
        row("edges", none, control=True),
    )
    lines = {"hirescam at a": [1.0, 0.5, 0.2], "gradcam at a": [1, 0.8, 0.2], "a blob": [1, 1, 0.2]}
    return Report(
        title="Audit",
        subtitle="The map is wrong.",
        audit=AuditPart(
            grade="bad",
            sentences=("Of 64 photos 90 % are right.", EVIL),
            advice="Take more photos.",
            gate=(("energy>=0.5", False, "0.4"), ("accuracy>=0.5", True, "0.9")),
            pick=heads[0],
            metrics=heads,
            rows=rows,
            curves=(step_chart("Deletion", [0, 0.05, 1], lines),),
            groups=(
                GroupCard(f"31 % of {EVIL}", "hiding it flips", True, 9, "a.jpg", photo, heat),
                GroupCard("20 % of blast", "", False, 1, "b.jpg", photo, heat),
            ),
            segmentation=SegmentationPart(
                area=0.061,
                true_area=0.052,
                empty=3,
                broken=1,
                metric=MetricHead("segmentation_energy", "segmentation energy", "higher", "It is."),
                beside=heads[:1],
                rows=tuple(replace(one, cells=one.cells[:1]) for one in rows),
                cases=(differing(photo, heat),),
                classes=(
                    SegmentedRow("blast", 9, 8, 0.08, Cell(0.3, 0.2, 0.4), Cell(0.5, 0.4, 0.6)),
                    SegmentedRow(EVIL, 2, 0, float("nan"), none, none),
                ),
            ),
        ),
    )


def differing(photo, heat):
    shown = MapPicture("hirescam", "stages.2", EVIL, 0.9, heat)
    return Case(f"{EVIL}.jpg · segmentation energy 0.020", photo, "blast", "rust", 0.9, (shown,))


def row(method, picked, *, control=False, recommended=False, badges=()):
    return LeaderRow(
        method=method,
        layer="stages.2.blocks.-1.conv_dw",
        kind="control" if control else "",
        control=control,
        images="48 of 64",
        cost=3.0,
        recommended=recommended,
        trusted=recommended,
        badges=badges,
        picked=picked,
        cells=(picked,) * len(NAMES),
    )


def test_the_verdict_and_what_was_required(open_page):
    page = open_page()
    verdict = page.locator("#verdict").inner_text()
    assert "a fault was found" in verdict
    assert "✗ missed energy>=0.5 · 0.4" in verdict
    assert "✓ met accuracy>=0.5 · 0.9" in verdict
    assert EVIL in verdict
    assert "What to do next. Take more photos." in verdict
    assert page.locator("img").count() == 0


def test_the_leaderboard_names_the_map_and_its_controls(open_page):
    board = open_page().locator("#leaderboard .board")
    assert "★ recommended" in board.locator("tr.recommended").inner_text()
    assert "ignores the network" in board.inner_text()
    assert board.locator("tr.control").count() == 2
    floors = board.evaluate(
        "e => [...e.querySelectorAll('.range')].map(r => r.style.getPropertyValue('--floor'))"
    )
    assert {floor.strip() for floor in floors} == {"0.4000"}


def test_map_and_segmentation(open_page):
    page = open_page()
    part = page.locator("#segmentation")
    lead = part.locator(".lead").first.inner_text().replace("\u202f", " ")
    assert "What is segmented covers 6.1 % of the picture" in lead
    assert "The true region covers 5.2 %" in lead
    assert "Nothing is segmented in 3 photos: counted in no mean." in lead
    assert "In 1 photo the segmentation is not finite." in lead
    heads = part.locator("thead th").all_inner_texts()
    assert heads.index("segmentation energy") < heads.index("energy")
    board = part.locator(".board tbody")
    assert board.locator("tr").count() == 4
    assert {board.locator(f"tr:nth-child({n}) td").count() for n in (1, 4)} == {6}
    cells = part.locator("table:not(.board) tbody tr")
    assert cells.nth(0).locator("td").all_inner_texts()[1:3] == ["8", "8.0\u202f%"]
    assert cells.nth(0).locator("td").last.inner_text() == "0.400 – 0.600"
    assert set(cells.nth(1).locator("td").all_inner_texts()[2:]) == {"–"}
    page.get_by_role("navigation").get_by_text("Segmentation").click()
    assert part.is_visible()


def test_where_they_differ_is_enlarged(open_page):
    page = open_page()
    cards = page.locator("#segmentation article")
    assert "✗ wrong" in cards.first.inner_text()
    assert "segmentation energy 0.020" in cards.first.inner_text()
    cards.locator(".look").nth(1).click()
    assert f"{EVIL}.jpg" in page.locator("#large").inner_text()


def test_without_a_segmentation_there_is_no_such_part(visit, tmp_path):
    bare = report()
    bare = replace(bare, audit=replace(bare.audit, segmentation=None))
    page = visit(write_report(bare, tmp_path / "bare.html").as_uri())
    assert page.locator("#leaderboard").count() == 1
    assert page.locator("#segmentation").count() == 0
    assert page.get_by_role("navigation").get_by_text("Segmentation").count() == 0


def test_all_metrics_unfold(open_page):
    page = open_page()
    matrix = page.locator(".matrix")
    assert not matrix.is_visible()
    page.get_by_text("All 12 metrics").click()
    assert matrix.is_visible()
    assert matrix.locator("thead th").count() == 1 + len(NAMES)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_downwards_only(open_page, scheme):
    page = open_page(viewport=PHONE, color_scheme=scheme)
    page.get_by_text("All 12 metrics").click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_three_lines_have_three_colours(open_page):
    page = open_page()
    colours = page.eval_on_selector_all(
        "#curves polyline", "es => es.map(e => getComputedStyle(e).stroke)"
    )
    assert len(set(colours)) == 3


def test_a_group_is_enlarged_although_there_is_no_gallery(open_page):
    page = open_page()
    assert page.locator("#gallery").count() == 0
    assert "wrong reason" in page.locator("#reasons article").first.inner_text()
    assert "1 image" in page.locator("#reasons article").nth(1).inner_text()
    page.locator("#reasons .look").nth(1).click()
    dialog = page.locator("#large")
    assert dialog.is_visible()
    assert f"31 % of {EVIL}" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_it_is_readable_without_script_and_on_paper(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("#verdict").is_visible()
    page.emulate_media(media="print")
    assert page.locator("#leaderboard .board").is_visible()
    assert page.locator("#segmentation .board").is_visible()
