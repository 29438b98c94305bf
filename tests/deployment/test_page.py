"""The page of predictions: its contents, and in a real browser."""

import csv
import json
import os
import re
from contextlib import contextmanager

import numpy as np
import pytest

from fsad.deployment.page import SIDE, add_thumbnails, write_page
from fsad.evaluation.predict import COLUMNS, Row

COUNT = 200
LIMIT = np.float32(0.3)
ODD_NAMES = [
    "<img src=x onerror=\"console.error('run')\">.png",
    "</script><script>console.error('run')</script>.png",
    'it\'s "quoted", & <b>bold</b>.png',
    os.fsdecode(b"\xff.png"),
    "long" * 60 + ".png",
]
FAILED = Row("gone.png", "nut", error="gone.png: <b>No</b> such file")
LAST_PICTURES = "#images > li:last-child img"
ARE_LOADED = f"""width => Array.from(document.querySelectorAll("{LAST_PICTURES}"))
    .every(image => image.naturalWidth == width)"""


def row(name, score, threshold=LIMIT, class_name="nut"):
    if threshold is None:
        return Row(name, class_name, np.float32(score))
    score, limit = np.float32(score), np.float32(threshold)
    return Row(name, class_name, score, limit, score / limit, int(score > limit))


def drawn(rows):
    """Thumbnails of images with gradients, and of overlays in one colour."""
    found, gradient = {}, np.broadcast_to(np.arange(240)[:, None, None], (240, 400, 3))
    for index, name in enumerate(row.image for row in rows):
        image = (gradient + index) % 256
        overlay = np.full((240, 400, 3), [200, 30, 30], np.uint8)
        add_thumbnails(found, name, image.astype(np.uint8), overlay)
    return found


@pytest.fixture(scope="module")
def rows():
    """Of 200 images, some with odd names, and of one that could not be read."""
    names = [*ODD_NAMES, *(f"belt/{i:03}.png" for i in range(COUNT - len(ODD_NAMES)))]
    scores = np.random.default_rng(0).uniform(0.1, 0.9, COUNT).astype(np.float32)
    scores[7] = LIMIT  # not above it
    found = [row(name, score) for name, score in zip(names, scores, strict=True)]
    return [*found, FAILED]


@pytest.fixture(scope="module")
def path(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(path, rows, drawn(rows[:-1]))
    return path


@contextmanager
def opened(browser, path, **options):
    """The open page, without network; whatever goes wrong in it fails the test."""
    context = browser.new_context(offline=True, **options)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url[:100]))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def page(browser, path):
    with opened(browser, path) as page:
        yield page


def written(tmp_path, rows, pictures=True):
    """A page of these rows."""
    path = tmp_path / "page.html"
    write_page(path, rows, drawn(rows) if pictures else {})
    return path


def data_of(path):
    """The data in a page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])


def cards(page):
    """Names of the images that are shown."""
    return page.locator("#images > li:visible bdi").all_text_contents()


def summary(page):
    return page.locator("#summary").inner_text()


def downloaded(page, tmp_path):
    """Rows of the table that the page gives, below the names of its columns."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "scores.csv"
    download.value.save_as(tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    assert tuple(head) == COLUMNS
    # JavaScript writes 1.0 as 1.
    return [
        [*x[:2], *(value and float(value) for value in x[2:6]), x[6]] for x in lines
    ]


def table(rows):
    """Rows as `downloaded` gives them, with the decimal numbers of scores.csv."""
    values = [["" if x is None else float(str(x)) for x in row[2:6]] for row in rows]
    return [
        [shown(row.image), row.class_name, *x, row.error]
        for row, x in zip(rows, values, strict=True)
    ]


def shown(text):
    return text.encode("utf-8", "backslashreplace").decode()


def test_thumbnails_are_no_larger_than_they_are_shown():
    found = {}
    for name, shape in {"wide": (4, 1500), "small": (20, 30)}.items():
        add_thumbnails(found, name, *np.zeros((2, *shape, 3), np.uint8))
    # The sizes stand in the header of a lossy WebP file.
    sizes = {n: np.frombuffer(x[26:30], "<u2") for n, (x, _) in found.items()}
    assert sizes["wide"].tolist() == [SIDE, 1]
    assert sizes["small"].tolist() == [30, 20]


def test_the_page_holds_all_it_needs(path):
    html = re.sub(r'id="data">.*?</script>', "", path.read_text())
    assert not re.search(r"https?:|src=|@import|url\(", html)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    allowed = dict(x.split(" ", 1) for x in policy.split("; "))
    assert (allowed["default-src"], allowed["img-src"]) == ("'none'", "data:")
    for name in ("style-src", "script-src"):
        assert re.fullmatch(r"'sha256-[\w+/=]+'", allowed[name])


def test_the_numbers_are_those_of_the_table(path, rows):
    found = data_of(path)["rows"]
    for one, row in zip(found, rows, strict=True):
        numbers = [one["score"], one["threshold"], one["normalised"]]
        expected = row.score, row.threshold, row.normalised
        assert [x and str(x) for x in numbers] == [x and str(x) for x in expected]


def test_images_are_sorted_by_score(page, rows):
    scored = sorted(rows[:-1], key=lambda row: -row.score)
    assert cards(page) == [shown(row.image) for row in scored]
    above = sum(row.anomalous for row in scored)
    assert summary(page) == f"{above} of {COUNT} images are anomalous"
    assert page.locator("li.anomalous").count() == above


def test_names_are_data(page):
    """A script in one would be an error of the page; it would not find its image."""
    for name in ODD_NAMES:
        assert page.get_by_alt_text(shown(name), exact=True).count() == 1
    assert page.locator("#images b, #failed b").count() == 0


def test_pictures_can_be_seen_where_they_are_looked_for(page):
    page.locator("#images > li").last.scroll_into_view_if_needed()
    assert page.locator(LAST_PICTURES).count() == 2
    page.wait_for_function(ARE_LOADED, arg=SIDE)


def test_images_that_failed_are_listed_with_their_reasons(page):
    text = page.locator("#failed").inner_text()
    assert f"1 of {COUNT + 1} images with errors" in text
    assert f"gone.png: {FAILED.error}" in text


def test_the_slider_recounts(page, rows):
    slider = page.get_by_role("slider")
    scores = np.array([row.score for row in rows[:-1]])
    slider.focus()
    for key, expected in (("End", 0), ("Home", COUNT)):
        page.keyboard.press(key)
        assert summary(page).startswith(f"{expected} of")
    slider.fill("0.5")
    above = (scores > 0.5).sum()
    assert summary(page).startswith(f"{above} of")
    assert page.locator("li.anomalous").count() == above
    assert page.get_by_role("spinbutton").input_value() == "0.5"
    page.get_by_role("button", name="Reset").click()
    assert summary(page).startswith(f"{(scores > LIMIT).sum()} of")


def test_a_typed_threshold_recounts(page, rows):
    scores = np.array([row.score for row in rows[:-1]])
    number = page.get_by_role("spinbutton")
    number.fill("0.7123")
    assert summary(page).startswith(f"{(scores > 0.7123).sum()} of")
    number.fill("")
    assert summary(page).startswith(f"{(scores > 0.7123).sum()} of")
    number.fill("5")
    assert summary(page).startswith("0 of")


def test_a_filter_shows_a_part(page, rows):
    page.get_by_label("anomalous", exact=True).check()
    above = {shown(row.image) for row in rows if row.anomalous}
    assert {*cards(page)} == above
    page.get_by_label("normal", exact=True).check()
    assert len(cards(page)) == COUNT - len(above)
    page.get_by_role("spinbutton").fill("0")
    assert cards(page) == []


def test_the_mouse_shows_an_overlay_and_a_click_holds_it(page):
    button = page.locator("#images button").nth(3)
    overlay = button.locator(".overlay")
    assert not overlay.is_visible()
    button.hover()
    assert overlay.is_visible()
    page.mouse.move(0, 0)
    assert not overlay.is_visible()
    button.click()
    page.mouse.move(0, 0)
    assert (overlay.is_visible(), button.get_attribute("aria-pressed")) == (
        True,
        "true",
    )
    page.keyboard.press("Enter")
    assert (overlay.is_visible(), button.get_attribute("aria-pressed")) == (
        *(False, "false"),
    )


def test_a_finger_shows_and_hides_an_overlay(browser, path):
    phone = {"has_touch": True, "is_mobile": True}
    with opened(browser, path, viewport={"width": 360, "height": 740}, **phone) as page:
        button = page.locator("#images button").first
        for expected in (True, False):
            button.tap()
            assert button.locator(".overlay").is_visible() == expected


def test_a_phone_shows_the_page_without_scrolling_sideways(browser, path):
    with opened(browser, path, viewport={"width": 360, "height": 740}) as page:
        for card in ("first", "last"):
            getattr(page.locator("#images > li"), card).scroll_into_view_if_needed()
            assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_download_is_the_table_of_the_chosen_threshold(page, rows, tmp_path):
    assert downloaded(page, tmp_path) == table(rows)
    page.get_by_role("spinbutton").fill("0.5")
    expected = [row(x.image, x.score, 0.5) for x in rows[:-1]]
    assert downloaded(page, tmp_path) == table([*expected, FAILED])


def test_the_page_is_dark_where_all_is(browser, path):
    colours = set()
    for scheme in ("dark", "light"):
        with opened(browser, path, color_scheme=scheme) as page:
            colour = "getComputedStyle(document.body).backgroundColor"
            colours.add(page.evaluate(colour))
    assert colours == {"rgb(20, 24, 29)", "rgb(255, 255, 255)"}


def test_without_a_threshold_nothing_is_anomalous_at_first(browser, tmp_path):
    rows = [row(f"{i}.png", i / 7, None) for i in range(5)]
    with opened(browser, written(tmp_path, rows)) as page:
        assert summary(page) == "0 of 5 images are anomalous"
        assert "Images without a threshold" in page.locator("#note").inner_text()
        page.get_by_role("slider").fill("0.25")
        assert summary(page) == "3 of 5 images are anomalous"


@pytest.fixture
def two_classes():
    """Rows of classes with thresholds of their own."""
    bolts = [row(f"bolt/{i}.png", i / 10, 0.25, "bolt") for i in range(5)]
    return [*bolts, *(row(f"nut/{i}.png", 10 * i, 25, "nut") for i in range(5))]


def test_several_classes_have_one_slider_of_multiples(browser, tmp_path, two_classes):
    with opened(browser, written(tmp_path, two_classes)) as page:
        assert cards(page)[:2] == ["bolt/4.png", "nut/4.png"]
        assert page.get_by_role("spinbutton").input_value() == "1"
        assert summary(page) == "4 of 10 images are anomalous"
        found = [x[5] for x in downloaded(page, tmp_path)]
        assert found == [x.anomalous for x in two_classes]
        page.get_by_role("slider").fill("0.5")
        assert summary(page) == "6 of 10 images are anomalous"
        thresholds = {(x[1], x[3]) for x in downloaded(page, tmp_path)}
        assert thresholds == {("bolt", 0.125), ("nut", 12.5)}


@pytest.mark.parametrize(
    ("other", "value", "start"),
    [(None, "score", None), (0.25, "score", 0.25), (0, "score", None)],
)
def test_the_slider_is_of_what_all_images_have(
    tmp_path, two_classes, other, value, start
):
    """One threshold for both classes, or none for the nuts."""
    with np.errstate(invalid="ignore", divide="ignore"):
        nuts = [row(x.image, x.score, other) for x in two_classes[5:]]
    if other == 0:
        nuts = [x._replace(normalised=None) for x in nuts]
    found = data_of(written(tmp_path, [*two_classes[:5], *nuts]))
    assert (found["value"], found["start"]) == (value, start)


@pytest.mark.parametrize("rows", [[FAILED], [row("a.png", 0.25)], [row("a.png", 0)]])
def test_a_page_of_few_images_opens(browser, tmp_path, rows):
    """Of none that was read, and of one whose overlay was not drawn."""
    with opened(browser, written(tmp_path, rows, pictures=False)) as page:
        count = sum(row.score is not None for row in rows)
        assert summary(page) == f"0 of {count} images are anomalous"
        assert page.get_by_text("no picture").count() == count


def test_a_page_names_its_classes(browser, tmp_path):
    rows = [row("1.png", 0.1, class_name="<i>nut</i>"), row("2.png", 0.1)]
    with opened(browser, written(tmp_path, rows)) as page:
        assert page.title() == "Anomaly scores: <i>nut</i>, nut"
        assert page.locator("h1").inner_text() == page.title()
