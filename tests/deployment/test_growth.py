"""Detectors with more support images are those that were fitted to all of them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.digests import file_digests
from fsad.errors import UserError
from fsad.evaluation.detector import detect, view_of
from fsad.evaluation.detector_files import load_detectors, save_detectors

METHODS = {
    "patchcore": {},
    "anomalydino": {},
    "subspacead": {"whole": True, "tiles": {"grid": [1, 2]}},
    "winclip": {},
}


@pytest.fixture
def folder_of(photographs, tmp_path):
    """Writes chosen images into a folder of its own."""

    def write(*indices):
        folder = tmp_path / "_".join(map(str, indices))
        folder.mkdir()
        for index in indices:
            Image.fromarray(photographs[index]).save(folder / f"{index}.png")
        return folder

    return write


def extend(detector, folder):
    from fsad.deployment.growth import extend

    return extend(detector, folder, threads=1)


def predictions(detector, images):
    return detect(detector, [view_of(detector, image) for image in images])


@pytest.mark.parametrize("method", METHODS)
def test_images_that_are_added_count_as_those_of_the_fit(
    fit, photographs, folder_of, method, tmp_path
):
    """The extended detector is read from a file before it grows."""
    options = METHODS[method]
    save_detectors(
        tmp_path / "d.safetensors", [fit(method, photographs[:1], **options)]
    )
    before = load_detectors(tmp_path / "d.safetensors")["nut"]
    grown, threshold, added, _ = extend(before, folder_of(1, 2))
    expected = fit(method, photographs[:3], **options)
    assert grown.described["threshold"] == pytest.approx(
        expected.described["threshold"], rel=1e-4
    )
    assert threshold == "3 support images, each against the others"
    assert added == 2
    pairs = zip(*(predictions(x, photographs) for x in (grown, expected)), strict=True)
    for found, other in pairs:
        assert found == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_prompts_stay_and_the_names_of_images_are_added(fit, photographs, folder_of):
    before = fit("promptad", photographs[:1])
    folder = folder_of(1)
    grown = extend(before, folder).detector
    for name, tensor in before.fitted.learned.items():
        assert np.array_equal(grown.fitted.learned[name], tensor)
    assert len(grown.fitted.support["mid1"]) == len(grown.seen) == 2
    path = folder / "1.png"
    added = [["1.png", file_digests([path])[path]]]
    assert grown.described["images"] == before.described["images"] + added


def test_zero_shots_become_some(fit, photographs, folder_of):
    grown = extend(fit("winclip", []), folder_of(0, 1)).detector
    expected = fit("winclip", photographs[:2])
    found, other = (predictions(x, photographs)[0] for x in (grown, expected))
    assert found == pytest.approx(other, rel=1e-5)
    assert grown.described["threshold"] is not None


@pytest.mark.parametrize(
    "options", [{}, {"position": "near", "tiles": {"grid": [1, 2]}}]
)
def test_a_coreset_goes_on(fit, photographs, folder_of, options):
    """Its threshold is that of the new images before; of one alone there is none."""
    before = fit("patchcore", photographs[:2], coreset=0.5, **options)
    grown, threshold, *_ = extend(before, folder_of(2, 3))
    known, learned = before.fitted.learned, grown.fitted.learned
    count = len(known["bank"])
    assert len(learned["bank"]) == 2 * count
    assert np.array_equal(learned["bank"][:count], known["bank"])
    assert set(learned["images"][count:].tolist()) <= {2, 3}
    assert set(known["images"].tolist()) <= {0, 1}
    scores, _ = predictions(before, photographs[2:4])
    assert grown.described["threshold"] == scores.max()
    assert threshold == "2 new images, against the memory before them"
    after, _ = predictions(grown, photographs[2:4])
    assert (after < scores).all()
    assert grown.described["calibrated"]["from"] == "new support images"
    grown, threshold, *_ = extend(before, folder_of(2))
    assert grown.described["threshold"] == before.described["threshold"]
    assert threshold == "before: a coreset, and one new image"


def test_support_images_are_left_out(fit, photographs, folder_of):
    from fsad.deployment.growth import summary

    folder = folder_of(1, 2)
    grown = extend(fit("patchcore", photographs[:1]), folder).detector
    with pytest.raises(UserError, match=": all images are support images already; add"):
        extend(grown, folder)
    shutil.copy(folder / "2.png", folder / "3.png")
    Image.fromarray(photographs[3]).save(folder / "4.png")
    more = extend(grown, folder)
    assert (more.added, len(more.detector.seen)) == (1, 4)
    *left_out, images, threshold = summary(more)
    assert [line.removeprefix(f"{folder}/")[:16] for line in left_out] == [
        "1.png: left out,",
        "2.png: left out,",
        "3.png: left out,",
    ]
    assert images == "4 support images, 1 of them new"
    assert threshold.startswith("threshold ")


def test_an_image_of_another_shape_is_refused_where_it_matters(
    fit, photographs, folder_of, caplog
):
    with pytest.raises(UserError, match=r"5\.png: the network takes an image of this"):
        extend(fit("anomalydino", photographs[:1], fit="edge"), folder_of(5))
    folder = folder_of(1)
    Image.fromarray(photographs[0][:, :20]).save(folder / "narrow.png")
    extend(fit("patchcore", photographs[:1]), folder)
    assert "narrow.png: is 20x40" in caplog.text
