"""The report of a finished run, opened in a real browser."""

import pytest

CATEGORIES = ["Overview", "Tables", "Training", "Image scores", "Anomaly maps", "Run"]
CATEGORIES = [f"{i} {name}" for i, name in enumerate(CATEGORIES, start=1)]
SHOWN = "Array.from(document.images, image => image.naturalWidth)"
VIEW = "p => app.setView({content: 'html', contentPath: results[p].data_uri})"
VIEWED = "p => document.querySelector('iframe')?.src == results[p].data_uri"
PICTURES = {"overview": 4, "history": 2, "scores": 2, "examples": 4, "times": 1}


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory):
    """The report of the micro project, with no file beside it."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    finished.snakemake("--report", path)
    return path


@pytest.fixture
def page(browser, report):
    """The open report, without network; whatever goes wrong in it fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1440, "height": 900})
    page, wrong = context.new_page(), []
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url[:100]))
    page.goto(report.as_uri())
    menu(page).get_by_text(CATEGORIES[0]).wait_for()
    yield page
    context.close()
    assert wrong == []


def menu(page):
    return page.locator("nav").first


def open_frame(page):
    frame = page.locator("iframe").element_handle().content_frame()
    frame.locator("h1").wait_for()
    return frame


def test_the_front_tells_what_was_run(page):
    text = page.locator("#app").inner_text()
    assert "Few-shot anomaly detection" in text
    assert "tiny.json, random" in text
    assert "RANDOM weights" in text
    for category in CATEGORIES:
        assert category in text


def test_a_click_shows_a_page_and_its_caption(page):
    menu(page).get_by_text(CATEGORIES[0]).click()
    menu(page).locator("table a").nth(0).click()
    frame = open_frame(page)
    assert frame.locator("h1").inner_text() == "own: overview"
    assert "means against shots" in frame.locator("img").first.get_attribute("alt")
    menu(page).locator("table a").nth(1).click()
    assert "means over the classes" in menu(page).inner_text()


def test_every_page_opens_and_its_pictures_are_visible(page):
    paths = page.evaluate("Object.keys(results)")
    stems = [path.rpartition("/")[2].removesuffix(".html") for path in paths]
    assert sorted(stems) == sorted(
        [*PICTURES, "settings", "own_cls", "own_seg", "components"]
    )
    for path, stem in zip(paths, stems, strict=True):
        page.evaluate(VIEW, path)
        page.wait_for_function(VIEWED, arg=path)
        frame = open_frame(page)
        frame.wait_for_function("Array.from(document.images).every(i => i.complete)")
        widths = frame.evaluate(SHOWN)
        assert len(widths) == PICTURES.get(stem, 0), stem
        assert all(width > 100 for width in widths), stem


def test_every_caption_is_written(page):
    captions = page.evaluate("Object.values(results).map(r => r.caption)")
    assert all(len(caption) > 200 for caption in captions)


def test_the_run_stays_as_it_was(finished, report):
    assert report.stat().st_size > 10**6
    assert "Nothing to be done" in finished.snakemake().stderr
