import numpy as np
import pytest
from PIL import Image

from fsad.artifacts import files
from fsad.artifacts.provenance import origin
from fsad.methods.maps import full_maps
from fsad.reports import panels

SIZE = 16
IMAGES = np.zeros((2, 8, 8, 3), np.uint8)
IMAGES[..., 0] = 200  # red
TEST = {"images": IMAGES, "names": np.array(["good/000.png", "dent/000.JPG"])}
MASKS = np.zeros((2, SIZE, SIZE), np.uint8)
MASKS[1, 4:8, 4:12] = 1
GRIDS = np.zeros((2, 4, 4), np.float32)
GRIDS[1, 1, 1:3] = 1


def written(folder):
    return {path.name: np.asarray(Image.open(path)) for path in folder.iterdir()}


@pytest.fixture
def drawn(tmp_path):
    panels.write_panels(tmp_path / "vis", TEST, GRIDS, MASKS, SIZE)
    return written(tmp_path / "vis")


def test_every_test_image_has_a_panel(drawn):
    assert drawn.keys() == {"good_000.png", "dent_000.JPG.png"}


def test_names_that_differ_in_extension_have_panels_of_their_own(tmp_path):
    test = TEST | {"names": np.array(["dent/000.png", "dent/000.jpg"])}
    panels.write_panels(tmp_path, test, GRIDS, MASKS, SIZE)
    assert len(written(tmp_path)) == 2


def test_a_panel_is_image_mask_and_overlay(drawn):
    image, mask, overlay = np.split(drawn["dent_000.JPG.png"], 3, axis=1)
    assert (image == [200, 0, 0]).all()
    assert np.array_equal(mask, np.repeat(MASKS[1, ..., None] * 255, 3, 2))
    assert overlay.shape == image.shape


def test_without_masks_a_panel_is_image_and_overlay(tmp_path):
    panels.write_panels(tmp_path, TEST, GRIDS, None, SIZE)
    assert written(tmp_path)["good_000.png"].shape == (SIZE, 2 * SIZE, 3)


def test_the_hottest_place_is_red_and_the_coldest_blue(drawn):
    overlay = drawn["dent_000.JPG.png"][:, 2 * SIZE :].astype(int) - [100, 0, 0]
    assert overlay[6, 8].argmax() == 0
    assert overlay[15, 0].argmax() == 2


def test_all_panels_share_one_colour_scale(tmp_path):
    grids = GRIDS.copy()
    grids[0] = full_maps(GRIDS, SIZE).max() / 2
    panels.write_panels(tmp_path, TEST, grids, MASKS, SIZE)
    overlay = written(tmp_path)["good_000.png"][:, 2 * SIZE :].astype(int)
    assert ((overlay - [100, 0, 0]).argmax(-1) == 1).all()  # half way: green


def test_equal_maps_can_be_drawn(tmp_path):
    panels.write_panels(tmp_path, TEST, np.ones_like(GRIDS), MASKS, SIZE)
    assert len(written(tmp_path)) == 2


MAKERS = {"images": "preprocess_test", "scores": "train", "masks": "preprocess_masks"}
CLS = {"visual": GRIDS, "last": np.zeros(2)}
SEG = {"visual": np.zeros_like(GRIDS), "last": GRIDS}


@pytest.mark.parametrize("run", [CLS, SEG], ids=["cls", "seg"])
@pytest.mark.parametrize("masks", [MASKS, None], ids=["masks", "no masks"])
def test_panels_from_files(tmp_path, run, masks):
    stored = {"images": TEST, "scores": run}
    if masks is not None:
        stored["masks"] = {"masks": masks}
    for name, arrays in stored.items():
        made = origin(f"{MAKERS[name]}.py", dataset="own")
        files.write_npz(tmp_path / f"{name}.npz", arrays, made)
    inputs = {name: tmp_path / f"{name}.npz" for name in stored}
    place = {"dataset": "own", "class_name": "nut"}
    panels.panels_from_files(tmp_path / "a", SIZE, place, **inputs)
    panels.write_panels(tmp_path / "b", TEST, GRIDS, masks, SIZE)
    ours, expected = written(tmp_path / "a"), written(tmp_path / "b")
    assert ours.keys() == expected.keys()
    assert all(np.array_equal(ours[name], expected[name]) for name in expected)
