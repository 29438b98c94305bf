import base64
import re

import cv2
import numpy as np
import pytest

from fsad.artifacts.files import write_npz
from fsad.artifacts.sources import Source
from fsad.evaluation import metrics
from fsad.methods.maps import picture_map
from fsad.reports import examples

SIZE, GRID = 16, 4
NAMES = np.array(["good/000.png", "dent/000.png", "dent/001.png", "dent/002.png"])
LABELS = np.array([0, 1, 1, 1])
SCORES = np.array([0.9, 0.2, 0.7, 0.4])


def mask_set():
    found = np.zeros((4, SIZE, SIZE), np.uint8)
    found[1:, :8, :8] = 1
    return found


def small_maps():
    """Maps that are hot: nowhere, at the defect, beside it, and everywhere a little."""
    found = np.zeros((4, GRID, GRID), np.float32)
    found[1, 0, 0], found[2, 3, 3], found[3, 0, :] = 1, 1, 1
    return found


@pytest.fixture
def write_page(tmp_path):
    def write(with_masks=True, labels=LABELS, resolution=SIZE):
        images = np.full((4, 8, 8, 3), 120, np.uint8)
        test = {"images": images, "names": NAMES, "labels": labels}
        run = {"labels": labels, "last_scores": SCORES, "last_maps": small_maps()}
        settings = {"dataset": "own", "experiment": "original", "class": "nut"}
        settings |= {"shots": 4, "options": {"resolution": resolution}}
        masks = {"masks": mask_set() * (labels != 0)[:, None, None]}
        contents = {"run": run | {"sigma": np.array(4.0)}, "test": test, "masks": masks}
        sources = []
        for name, arrays in contents.items():
            sources.append(Source(tmp_path / f"{name}.npz", settings))
            write_npz(sources[-1].path, arrays, settings)
        if not with_masks:
            sources[-1] = None
        path = tmp_path / "page.html"
        examples.write_examples(path, [sources])
        return path.read_text()

    return write


def captions(text):
    return re.findall("<figcaption>(.*?)</figcaption>", text)


def test_the_best_and_the_worst_localised_defect(write_page):
    best, worst = captions(write_page())
    assert best.startswith("best: dent/000.png, pixel AUROC of this image")
    assert worst.startswith("worst: dent/001.png, pixel AUROC of this image")


def test_without_masks_defects_are_ranked_by_their_score(write_page):
    assert captions(write_page(with_masks=False)) == [
        "best: dent/001.png, score 0.7",
        "worst: dent/000.png, score 0.2",
    ]


def test_pictures_are_image_mask_and_map(write_page):
    found = re.findall(r'src="data:image/jpeg;base64,(.*?)"', write_page())
    for data in found:
        buffer = np.frombuffer(base64.b64decode(data), np.uint8)
        picture = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        assert picture.shape == (examples.HEIGHT, 3 * examples.HEIGHT, 3)
        assert abs(int(picture[96, 10, 0]) - 120) < 5
    assert len(found) == 2


def test_one_defect_is_shown_once(write_page):
    (only,) = captions(write_page(labels=np.array([0, 0, 1, 0])))
    assert only.startswith("best: dent/001.png")


def test_without_any_defect_the_page_says_so(write_page):
    assert "No defective test image" in write_page(labels=np.zeros(4, int))


def test_quality_is_the_pixel_auroc_of_each_image():
    run = {"labels": LABELS, "last_scores": SCORES}
    maps = np.kron(small_maps(), np.ones((1, 4, 4), np.float32))
    quality = examples.image_quality(run, maps, mask_set())
    assert np.isnan(quality[0])
    # The hot quarter of the defect outscores all else, the rest of it ties.
    assert quality[1] == pytest.approx(100 * (0.25 + 0.75 / 2))
    assert quality[2] < 50


@pytest.mark.parametrize("with_masks", [True, False])
def test_raw_maps_are_compared_at_the_size_of_each_mask(write_page, with_masks):
    best, worst = captions(write_page(with_masks, resolution="raw"))
    names = ("000", "001") if with_masks else ("001", "000")
    for caption, name in zip((best, worst), names, strict=True):
        assert f"dent/{name}.png" in caption
    small, masks = small_maps()[1], mask_set()[1]
    area = metrics.auroc(masks, picture_map(small, masks.shape, 4.0))
    assert not with_masks or best.endswith(f"{area:.3g}")
