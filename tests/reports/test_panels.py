import cv2
import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.files import read_record, write_npz
from fsad.artifacts.sources import Source
from fsad.data.groups import stacked
from fsad.data.masks import IGNORED
from fsad.errors import UserError
from fsad.methods.maps import full_maps
from fsad.reports import panels

SIZE, SIGMA = 16, 1.0
IMAGES = np.zeros((2, 8, 8, 3), np.uint8)
IMAGES[..., 0] = 200  # red
TEST = {"images": IMAGES, "names": np.array(["good/000.png", "dent/000.JPG"])}
MASKS = np.zeros((2, SIZE, SIZE), np.uint8)
MASKS[1, 4:8, 4:12] = 1
SMALL = np.zeros((2, 4, 4), np.float32)
SMALL[1, 1, 1:3] = 1
MAPS = full_maps(SMALL, SIZE, SIGMA)


def written(folder):
    return {path.name: np.asarray(Image.open(path)) for path in folder.glob("*.png")}


@pytest.fixture
def drawn(tmp_path):
    panels.write_panels(tmp_path / "vis", TEST, MAPS, MASKS)
    return written(tmp_path / "vis")


def test_every_test_image_has_a_panel(drawn):
    assert drawn.keys() == {"good_000.png", "dent_000.JPG.png"}


def test_files_of_a_killed_writer_are_removed(tmp_path):
    left = tmp_path / ".good_001.png.77.tmp"
    left.write_text("half")
    panels.write_panels(tmp_path, TEST, MAPS, MASKS)
    assert not left.exists()


def test_names_that_differ_in_extension_have_panels_of_their_own(tmp_path):
    test = TEST | {"names": np.array(["dent/000.png", "dent/000.jpg"])}
    panels.write_panels(tmp_path, test, MAPS, MASKS)
    assert len(written(tmp_path)) == 2


def test_a_panel_is_image_mask_and_overlay(drawn):
    image, mask, overlay = np.split(drawn["dent_000.JPG.png"], 3, axis=1)
    assert (image == [200, 0, 0]).all()
    assert np.array_equal(mask, np.repeat(MASKS[1, ..., None] * 255, 3, 2))
    assert overlay.shape == image.shape


def test_without_masks_a_panel_is_image_and_overlay(tmp_path):
    panels.write_panels(tmp_path, TEST, MAPS, None)
    assert written(tmp_path)["good_000.png"].shape == (SIZE, 2 * SIZE, 3)


def test_the_hottest_place_is_red_and_the_coldest_blue(drawn):
    overlay = drawn["dent_000.JPG.png"][:, 2 * SIZE :].astype(int) - [100, 0, 0]
    assert overlay[6, 8].argmax() == 0
    assert overlay[15, 0].argmax() == 2


def test_all_panels_share_one_colour_scale(tmp_path):
    maps = MAPS.copy()
    maps[0] = np.percentile(MAPS, panels.PERCENTILES[1]) / 2
    panels.write_panels(tmp_path, TEST, maps, MASKS)
    overlay = written(tmp_path)["good_000.png"][:, 2 * SIZE :].astype(int)
    assert ((overlay - [100, 0, 0]).argmax(-1) == 1).all()  # half way: green


def test_equal_maps_can_be_drawn(tmp_path):
    panels.write_panels(tmp_path, TEST, np.ones_like(MAPS), MASKS)
    assert len(written(tmp_path)) == 2


RECORD = {"code": "now", "options": {"resolution": SIZE}}


def store(folder, with_masks=True):
    """The cached files of a class, and the scores.npz of two runs."""
    sources = [Source(folder / f"{n}.npz", {"code": n}) for n in ("images", "masks")]
    for (path, record), arrays in zip(sources, (TEST, {"masks": MASKS}), strict=True):
        write_npz(path, arrays, record)
    for name, factor in (("first", 1), ("second", -1)):
        arrays = {"last_maps": factor * SMALL, "sigma": np.array(SIGMA)}
        write_npz(folder / f"{name}.npz", arrays, RECORD)
    return [sources[0], sources[1] if with_masks else None]


def draw(folder, *sources):
    names, record = ("first", "second"), {"run": RECORD, "images": "all"}
    folders = [folder / name for name in names]
    scores = [folder / f"{name}.npz" for name in names]
    panels.draw_class(folders, [record, record], scores, *sources)
    return record


def test_pixels_that_do_not_count_are_grey(tmp_path):
    masks = MASKS.copy()
    masks[0, :5] = IGNORED
    panels.write_panels(tmp_path, TEST, MAPS, masks)
    _, mask, _ = np.split(written(tmp_path)["good_000.png"], 3, axis=1)
    assert (mask[:5] == panels.GREY).all()
    assert not mask[5:].any()


def test_panels_of_raw_maps_have_the_nominal_side(tmp_path):
    record = {"code": "raw", "options": {"resolution": "raw"}}
    arrays = {"last_maps": SMALL, "sigma": np.array(SIGMA)}
    write_npz(tmp_path / "scores.npz", arrays, record)
    large = [
        np.kron(mask, np.ones((n, 20), np.uint8)) for n, mask in enumerate(MASKS, 1)
    ]
    sources = [Source(tmp_path / f"{n}.npz", {"code": n}) for n in ("images", "masks")]
    write_npz(sources[0].path, TEST, sources[0].record)
    write_npz(
        sources[1].path,
        stacked([{"masks": mask} for mask in large], {}),
        sources[1].record,
    )
    panels.draw_class(
        [tmp_path], [{"run": record}], [tmp_path / "scores.npz"], *sources
    )
    square = np.array([cv2.resize(m, (256, 256), interpolation=0) for m in MASKS])
    panels.write_panels(tmp_path / "as", TEST, full_maps(SMALL, 256, SIGMA), square)
    ours, expected = written(tmp_path), written(tmp_path / "as")
    assert ours.keys() == expected.keys()
    assert all(np.array_equal(ours[n], expected[n]) for n in expected)


@pytest.mark.parametrize("with_masks", [True, False])
def test_panels_of_the_runs_of_a_class(tmp_path, with_masks):
    record = draw(tmp_path, *store(tmp_path, with_masks))
    masks = MASKS if with_masks else None
    for name, maps in (("first", MAPS), ("second", -MAPS)):
        panels.write_panels(tmp_path / "expected", TEST, maps, masks)
        ours, expected = written(tmp_path / name), written(tmp_path / "expected")
        assert ours.keys() == expected.keys()
        assert all(np.array_equal(ours[n], expected[n]) for n in expected)
        assert read_record(tmp_path / name / "record.json") == record


@pytest.mark.parametrize("kind", ["images", "masks", "first"])
def test_files_of_another_record_are_refused(tmp_path, kind):
    sources, path = store(tmp_path), tmp_path / f"{kind}.npz"
    write_npz(path, dict(np.load(path)), {"code": "old"})
    with pytest.raises(UserError, match=f"{path}: is of code old"):
        draw(tmp_path, *sources)
    assert not (tmp_path / "first/record.json").exists()


def test_long_and_equal_names_have_panels_of_their_own(tmp_path):
    names = ["a/b_c.png", "a_b/c.png"], ["dent/" + "字" * 83, "dent/" + "字" * 84]
    for index, pair in enumerate(names):
        panels.write_panels(tmp_path / str(index), TEST | {"names": pair}, MAPS, MASKS)
        assert len(written(tmp_path / str(index))) == 2


def test_a_panel_that_cannot_be_drawn_stops_no_other(tmp_path, monkeypatch, caplog):
    original = panels.draw_panel
    once = iter([ZeroDivisionError("odd")])

    def draw(*arguments):
        for error in once:
            raise error
        return original(*arguments)

    monkeypatch.setattr(panels, "draw_panel", draw)
    with pytest.raises(UserError, match=r"1 of 2 panels .* as that of good/000\.png"):
        panels.write_panels(tmp_path, TEST, MAPS, MASKS)
    assert written(tmp_path).keys() == {"dent_000.JPG.png"}
    assert "ZeroDivisionError" in caplog.text
