import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fsad.data.layouts import Sample
from fsad.data.masks import checked_mask
from fsad.errors import UserError

MASK = np.random.default_rng(0).integers(0, 256, (6, 9)) > 160
SPOT = np.zeros((48, 64), bool)
SPOT[10:30, 20:45] = True
FRAMED = np.pad(~SPOT[1:-1, 1:-1], 1)  # by one pixel of black
FULL = np.uint8(255)


def checked(*paths, shape=MASK.shape, label=1):
    first, *more = paths
    sample = Sample("dent/a.png", first.with_name("a.png"), label, first, tuple(more))
    return checked_mask(sample, shape)


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


PLAIN = {
    "bool": MASK,
    "0-1": MASK.astype(np.uint8),
    "0-255": MASK * FULL,
    "16-bit": MASK.astype(np.uint16) * 300,
    "colour": MASK[..., None] * np.array([0, 0, 7], np.uint8),
    "numbers of kinds": MASK * np.arange(1, 10, dtype=np.uint8),
    "rgba": np.dstack([MASK * FULL] * 3 + [np.full(MASK.shape, FULL)]),
    "grey-alpha": np.dstack([MASK * FULL, np.full(MASK.shape, FULL)]),
    "red on transparent white": np.dstack(
        [np.full(MASK.shape, FULL), *[~MASK * FULL] * 2, MASK * FULL]
    ),
    "black on transparent": np.dstack([MASK * np.uint8(0)] * 3 + [MASK * FULL]),
}


ARRAYS = {
    "bool": MASK,
    "int64": MASK.astype(np.int64) * 3,
    "float": np.where(MASK, 1.0, np.nan),
    "one channel": MASK[..., None],
}


@pytest.mark.parametrize("case", ARRAYS)
def test_masks_that_are_arrays(tmp_path, case):
    np.save(tmp_path / "m.npy", ARRAYS[case])
    mask, faults = checked(tmp_path / "m.npy")
    assert np.array_equal(mask, MASK)
    assert faults == []


NO_MASKS = {
    "is no array of NumPy": np.array([object()]),
    r"holds float64 \[4\] and not numbers \[H, W\]": np.zeros(4),
    "holds <U1": np.array([["a"]]),
    "mask is 6x9 pixels, its image 9x6": MASK.T,
}


@pytest.mark.parametrize("message", NO_MASKS)
def test_arrays_that_are_no_masks_are_named(tmp_path, message):
    np.save(tmp_path / "m.npy", NO_MASKS[message])
    with pytest.raises(UserError, match=rf"m\.npy: {message}.*; "):
        checked(tmp_path / "m.npy")


@pytest.mark.parametrize("case", PLAIN)
def test_masks_of_all_sorts(tmp_path, case):
    mask, faults = checked(saved(tmp_path / "m.png", PLAIN[case]))
    assert mask.dtype == bool
    assert np.array_equal(mask, MASK)
    assert faults == []


@pytest.mark.parametrize("defect", [0, 1])
def test_palette_masks_count_by_colour(tmp_path, defect):
    palette = Image.fromarray((defect == MASK).astype(np.uint8), "P")
    colours = [[0, 0, 0], [128, 0, 0]]
    palette.putpalette(colours[1 - defect] + colours[defect])
    palette.save(tmp_path / "m.png")
    assert np.array_equal(checked(tmp_path / "m.png")[0], MASK)


@pytest.mark.parametrize("ending", ["jpg", "webp"])
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_masks_saved_with_losses_are_those_that_were_saved(tmp_path, ending, quality):
    y, x = np.mgrid[:96, :128]
    spots = ((y - 40) ** 2 + (x - 50) ** 2 < 300) | ((x > 90) & (x < 96) & (y > 20))
    path = saved(tmp_path / f"m.{ending}", spots * FULL, quality=quality)
    mask, faults = checked(path, shape=spots.shape)
    assert (mask & spots).sum() / (mask | spots).sum() > 0.97
    assert faults == []


def test_soft_edges_are_cut_in_their_middle(tmp_path):
    soft = Image.fromarray(SPOT * FULL).resize((16, 12)).resize((64, 48))
    soft.save(tmp_path / "m.png")
    mask, faults = checked(tmp_path / "m.png", shape=SPOT.shape)
    assert (mask & SPOT).sum() / (mask | SPOT).sum() > 0.9
    assert faults == []


@pytest.mark.parametrize("levels", [(0, 128, 255), (0, 1, 255), (0, 85, 170, 255)])
def test_areas_of_middle_values_are_doubtful(tmp_path, levels):
    array = np.zeros(SPOT.shape, np.uint8)
    for index, level in enumerate(levels):
        array[10:20, 10 * index : 10 * index + 10] = level
    path = saved(tmp_path / "m.png", array)
    mask, faults = checked(path, shape=SPOT.shape)
    assert np.array_equal(mask, array >= 127.5)
    assert [(p, why[:26]) for p, why in faults] == [
        (path, "has areas of values betwee")
    ]


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.ones_like(SPOT), "marks nearly all of its image"),
        (~SPOT, "marks the larger part of its image, and its border"),
        (FRAMED, "marks the larger part of its image, and its border"),
    ],
)
def test_masks_of_the_wrong_part_are_doubtful(tmp_path, array, why):
    path = saved(tmp_path / "m.png", array * FULL)
    mask, ((named, reason),) = checked(path, shape=SPOT.shape)
    assert np.array_equal(mask, array)
    assert (named, reason[: len(why)]) == (path, why)


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("fill", [None, (255, 0, 0)])
def test_drawings_over_the_photograph_are_doubtful(tmp_path, fill, ending):
    noise = np.random.default_rng(0).integers(90, 170, (*SPOT.shape, 3), np.uint8)
    picture = Image.fromarray(noise)
    box = 20, 10, 44, 29
    ImageDraw.Draw(picture).rectangle(box, fill, outline=(255, 0, 0), width=2)
    picture.save(tmp_path / f"m.{ending}", quality=95)
    _, faults = checked(tmp_path / f"m.{ending}", shape=SPOT.shape)
    assert any("; save it with two values" in why for _, why in faults)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_photograph_of_a_part_before_a_dark_background_is_doubtful(tmp_path, ending):
    noise = np.random.default_rng(0).normal(120, 20, (96, 128)).clip(40, 250)
    part = np.pad(noise[:50, :70], ((20, 26), (30, 28))).astype(np.uint8)
    path = saved(tmp_path / f"m.{ending}", part, quality=90)
    ((named, why),) = checked(path, shape=part.shape)[1]
    assert (named, why[:26]) == (path, "has areas of values betwee")


@pytest.mark.parametrize("factor", [2, 8, 16])
def test_masks_made_larger_are_not_doubtful(tmp_path, factor):
    small = Image.fromarray(SPOT * FULL)
    small.resize((64 * factor, 48 * factor)).save(tmp_path / "m.png")
    shape = 48 * factor, 64 * factor
    assert checked(tmp_path / "m.png", shape=shape)[1] == []


def test_several_masks_are_parts_of_one(tmp_path):
    upper, lower = MASK.copy(), MASK.copy()
    upper[3:], lower[:3] = False, False
    paths = [saved(tmp_path / f"{i}.png", m) for i, m in enumerate((upper, lower))]
    assert np.array_equal(checked(*paths)[0], MASK)


def polygons(path, *shapes, size=(None, None)):
    height, width = size
    content = {"shapes": list(shapes), "imageHeight": height, "imageWidth": width}
    path.write_text(json.dumps(content))
    return path


def test_polygons_mark_their_areas(tmp_path):
    corners = [[20, 10], [44, 10], [44, 29], [20, 29]]
    path = polygons(tmp_path / "a.json", {"points": corners, "shape_type": "polygon"})
    assert np.array_equal(checked(path, shape=SPOT.shape)[0], SPOT)
    box = {"points": corners[::2], "shape_type": "rectangle"}
    path = polygons(tmp_path / "a.json", box, size=SPOT.shape)
    assert np.array_equal(checked(path, shape=SPOT.shape)[0], SPOT)
    round_one = {"points": [[30, 20], [30, 25]], "shape_type": "circle"}
    path = polygons(tmp_path / "a.json", round_one)
    assert 65 < checked(path, shape=SPOT.shape)[0].sum() < 100


@pytest.mark.parametrize(
    ("shapes", "size", "message"),
    [
        ([{"points": [[1, 1], [3, 3]], "shape_type": "line"}], (6, 9), "a line marks"),
        ([{"points": "many"}], (6, 9), "is no file of LabelMe"),
        ([], (6, 9), "marks no pixel"),
        ([], (60, 90), "mask is 90x60 pixels, its image 9x6"),
    ],
)
def test_other_polygons_are_refused(tmp_path, shapes, size, message):
    path = polygons(tmp_path / "a.json", *shapes, size=size)
    with pytest.raises(UserError, match=rf"a\.json: .*{message}"):
        checked(path)


NOT_LABELME = ["[]", '{"shapes": [1]}', '{"shapes": ' + "[" * 10**5, '{"shapes": 1}']


@pytest.mark.parametrize("content", NOT_LABELME)
def test_json_of_another_form_is_no_file_of_labelme(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json: is no file of LabelMe \(.*; save"):
        checked(tmp_path / "a.json")


def test_polygons_of_a_huge_image_take_no_memory(tmp_path):
    path = polygons(tmp_path / "a.json", size=(10**9, 10**9))
    with pytest.raises(UserError, match="mask is 1000000000x1000000000 pixels, its"):
        checked(path)


def test_polygons_with_a_byte_order_mark_and_sizes_with_a_point(tmp_path):
    box = {"points": [[20, 10], [44, 29]], "shape_type": "rectangle"}
    path = polygons(tmp_path / "a.json", box, size=(48.0, 64.0))
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert np.array_equal(checked(path, shape=SPOT.shape)[0], SPOT)


@pytest.mark.parametrize("content", [b"", b"mask", None])
def test_a_mask_that_is_cut_or_none_is_named(tmp_path, content):
    if content is None:
        file = io.BytesIO()
        Image.fromarray(MASK * FULL).save(file, "png")
        content = file.getvalue()[:50]
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(UserError, match=r"m\.png: cannot be read as an image"):
        checked(tmp_path / "m.png")


def test_a_mask_of_several_pages_is_refused(tmp_path):
    pages = [Image.fromarray(m) for m in (MASK, ~MASK)]
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match=r"m\.tif: holds 2 pages"):
        checked(tmp_path / "m.tif")


def test_masks_of_good_images_mark_nothing(tmp_path):
    blank = saved(tmp_path / "m.png", MASK & False)
    assert checked(blank, label=0)[1] == []
    mask, ((path, why),) = checked(saved(tmp_path / "m.png", MASK), label=0)
    assert not mask.any()
    assert (path, why[:32]) == (blank, "marks a defect in a good image; ")
