"""The page in a real Chromium: three sizes, dark, print, without JavaScript."""

from __future__ import annotations

import re

import pytest

from lrfdse.report.page.html import report_html
from lrfdse.results.read import document_of_plain

pytestmark = pytest.mark.slow

SIZES = {"phone": (390, 844), "laptop": (1280, 800), "wide": (1920, 1080)}


@pytest.fixture
def opened(browser, tmp_path):
    """Open a document's page; what it logs and asks for is collected in the lists that come with it."""
    contexts = []

    def open_page(document, size="laptop", wait=True, **more):
        path = tmp_path / "report.html"
        path.write_text(report_html(document_of_plain(document)), encoding="utf-8")
        width, height = SIZES[size]
        phone = {"is_mobile": True, "has_touch": True} if size == "phone" else {}
        context = browser.new_context(viewport={"width": width, "height": height}, **phone, **more)
        contexts.append(context)
        page = context.new_page()
        page.logged, page.asked = [], []
        page.on("console", lambda message: page.logged.append(message.text))
        page.on("pageerror", lambda error: page.logged.append(str(error)))
        page.on("dialog", lambda dialog: page.logged.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path.as_uri())
        if wait:
            page.wait_for_selector("html[data-plots=drawn]", state="attached", timeout=120_000)
        return page

    yield open_page
    for context in contexts:
        context.close()


def drawn(page, name):
    """Count the markers of designs that the browser drew in a plot."""
    return page.locator(f"[data-figure={name}] .scatterlayer .points path.point").count()


@pytest.mark.parametrize("size", SIZES)
def test_plots_are_drawn_and_nothing_overflows(size, hostile, opened):
    page = opened(hostile, size)
    assert page.logged == []
    assert [url for url in page.asked if not url.startswith("file:")] == []
    assert len(page.asked) == 1
    designs = len(hostile["designs"]) + len(hostile["dominated"])
    assert drawn(page, "pareto") == designs
    assert drawn(page, "params") == designs
    # What is far from the limit is out of view; each design that is in view has a tick at its other cache regime.
    assert designs <= drawn(page, "deciding") <= 4 * designs
    sizes = "[...document.querySelectorAll('.plot')].map(p => [p.clientWidth * p.clientHeight, p.dataset.figure])"
    plots = page.evaluate(sizes)
    assert ("deciding" in max(plots)) or size == "phone"
    assert page.locator("[data-figure=spectra] .lines path.js-line").count() == 4
    assert page.locator("[data-figure=funnel] path.point").count() == 2
    assert page.locator("[data-figure=layer-bytes] .bars .point").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    widths = page.evaluate("[...document.querySelectorAll('.plot')].map(p => [p.clientWidth, p.scrollWidth])")
    assert all(inner <= outer for outer, inner in widths)


def test_the_pointer_shows_the_plan(hostile, opened):
    page = opened(hostile)
    page.locator("[data-figure=pareto]").scroll_into_view_if_needed()
    boxes = [point.bounding_box() for point in page.locator("[data-figure=pareto] .points path.point").all()]
    # The recommended design is the largest marker.
    star = max(boxes, key=lambda box: box["width"])
    page.mouse.move(star["x"] + star["width"] / 2, star["y"] + star["height"] / 2)
    hover = page.locator("[data-figure=pareto] .hoverlayer")
    hover.locator("text").first.wait_for()
    text = hover.text_content()
    assert "aaaaaaaa recommended" in text
    assert "<script>alert(1)</script> = tt:m=8x2,n=4x4,r=3" in text
    assert page.logged == []


def test_a_phone_shows_bytes_latencies_and_scores(document, opened):
    page = opened(document, "phone")
    heads = (
        page.locator("#designs table")
        .first.locator("thead th")
        .evaluate_all(
            "heads => heads.filter(h => h.checkVisibility()).map(h => [h.textContent, h.getBoundingClientRect().right])"
        )
    )
    shown = [text.removesuffix(", modelled") for text, _ in heads]
    assert shown == ["design", "KiB", "warm (µs)", "cold (µs)", "accuracy (%)"]
    assert max(right for _, right in heads) <= page.evaluate("innerWidth")


def test_the_best_scores_stand_out_on_a_dark_page(document, opened):
    def brightness(page):
        """The lightness of the recommended design's marker in the plot that is coloured by score."""
        fills = page.locator("[data-figure=pareto] .points path.point").evaluate_all(
            "points => points.map(p => [p.getBoundingClientRect().width, getComputedStyle(p).fill])"
        )
        fill = max(fills)[1]
        return sum(int(part) for part in re.findall(r"\d+", fill)[:3])

    light, dark = (opened(document, color_scheme=scheme) for scheme in ("light", "dark"))
    assert brightness(light) < brightness(dark)


def test_a_click_sorts_the_designs(document, opened):
    page = opened(document)
    table = page.locator("#designs table").first
    rows = "rows => rows.map(row => +row.cells[2].dataset.value)"
    before = table.locator("tbody tr").evaluate_all(rows)
    table.get_by_role("button", name="parameters").click()
    after = table.locator("tbody tr").evaluate_all(rows)
    assert after == sorted(before) != before
    table.get_by_role("button", name="parameters").click()
    assert table.locator("tbody tr").evaluate_all(rows) == sorted(before, reverse=True)


def test_dark_follows_the_system(document, opened):
    light, dark = (opened(document, color_scheme=scheme) for scheme in ("light", "dark"))
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    assert light.evaluate(ground) > 200 > 60 > dark.evaluate(ground)
    ink = "getComputedStyle(document.querySelector('[data-figure=pareto] .xtick text')).fill"
    assert light.evaluate(ink) != dark.evaluate(ink)


def test_print_has_the_plots_at_the_width_of_the_paper(document, opened, tmp_path):
    page = opened(document)
    page.evaluate(
        "addEventListener('beforeprint', () => { window.widths = "
        "[...document.querySelectorAll('.plot .main-svg')].map(svg => +svg.getAttribute('width')) })"
    )
    content = page.pdf(prefer_css_page_size=True)
    assert content.startswith(b"%PDF")
    assert len(content) > 30_000
    widths = page.evaluate("window.widths")
    assert widths and max(widths) <= 700
    assert page.evaluate("document.querySelector('[data-figure=pareto] .main-svg').getAttribute('width')") != "690"
    assert page.logged == []


def test_without_javascript_the_tables_stand(document, opened):
    page = opened(document, wait=False, java_script_enabled=False)
    assert page.locator("#designs tbody tr").count() == 6
    assert page.get_by_text("aaaaaaaa").first.is_visible()
    assert page.get_by_text("Every latency here is modelled").is_visible()


def test_an_injected_script_does_not_run(document, opened):
    page = opened(document)
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.bad=1'}))"
    )
    assert page.evaluate("window.bad") is None
