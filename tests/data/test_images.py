import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from fsad.data import images
from fsad.data.decode import limit_pixels
from fsad.data.layouts import Sample
from fsad.errors import UserError


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


COLOUR = noise(6, 9, 3)
GREY = COLOUR[..., 0]
ORIENTATION = 0x0112
FIXED_POINT = 1  # OpenCV interpolates uint8 in fixed point, off by one at most


def saved(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def exif(orientation):
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data


def area(array, size, axis):
    """Mean over the area of each new pixel, the naive way."""
    moved, step = np.moveaxis(array, axis, 0).astype(float), array.shape[axis] / size
    rows = []
    for i in range(size):
        start, end = i * step, (i + 1) * step
        overlap = [min(end, j + 1) - max(start, j) for j in range(len(moved))]
        rows.append(np.tensordot(np.maximum(overlap, 0), moved, 1) / step)
    return np.moveaxis(np.array(rows), 0, axis)


def cubic(array, size, axis, a=-0.75):
    """Cubic convolution with replicated borders, the naive way."""
    moved, step = np.moveaxis(array, axis, 0).astype(float), array.shape[axis] / size
    rows = []
    for i in range(size):
        centre, row = (i + 0.5) * step - 0.5, 0
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            pixel = moved[min(max(j, 0), len(moved) - 1)]
            row = row + _kernel(abs(centre - j), a) * pixel
        rows.append(row)
    return np.moveaxis(np.array(rows), 0, axis)


def _kernel(x, a):
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0


def test_a_non_square_image_is_squashed_to_the_means_of_its_areas():
    image = noise(12, 20, 3)
    expected = area(area(image, 4, 0), 4, 1)
    assert abs(images.square(image, 4) - expected).max() <= 0.5


def test_areas_may_share_pixels():
    image = noise(10, 7, 3)
    expected = area(area(image, 4, 0), 4, 1)
    assert abs(images.square(image, 4) - expected).max() <= 0.5 + 1e-3


def test_a_small_image_grows_cubically():
    image = noise(4, 6, 3)
    expected = cubic(cubic(image, 16, 0), 16, 1).clip(0, 255)
    assert abs(images.square(image, 16) - expected).max() <= FIXED_POINT


@pytest.mark.parametrize("shape", [(4, 24, 3), (24, 4, 3)])
def test_one_axis_shrinks_by_area_while_the_other_grows_cubically(shape):
    image = noise(*shape)
    long = int(np.argmax(shape))
    expected = cubic(np.rint(area(image, 8, long)), 8, 1 - long).clip(0, 255)
    assert abs(images.square(image, 8) - expected).max() <= FIXED_POINT


def test_an_image_of_the_right_size_is_left_alone():
    image = noise(8, 8, 3)
    assert np.array_equal(images.square(image, 8), image)


def test_pinned_pixels_of_a_non_square_image_and_its_mask():
    row = np.array([0, 0, 90, 90, 200, 200, 10, 30], np.uint8)
    image = np.repeat(row[None, :, None], 3, axis=2)  # 1 x 8
    mask = row[None] > 80
    assert images.square(image, 4)[..., 1].tolist() == [[0, 90, 200, 20]] * 4
    assert images.resize_mask(mask, 4).tolist() == [[0, 1, 1, 0]] * 4


@pytest.mark.parametrize("shape", [(60, 40), (5, 10), (60, 10), (5, 40)])
@pytest.mark.parametrize("axis", [0, 1])
def test_image_and_mask_stay_aligned(shape, axis):
    position = np.arange(shape[axis]) * 5 // shape[axis]
    mask = np.zeros(shape, bool)
    np.moveaxis(mask, axis, 0)[(position == 1) | (position == 2)] = True
    image = np.where(mask[..., None], 250, 5).repeat(3, 2).astype(np.uint8)
    bright = images.square(image, 20)[..., 0] > 127
    assert np.array_equal(bright, images.resize_mask(mask, 20))


def test_masks_are_resized_to_their_nearest_pixel():
    mask = noise(3, 6) > 127
    grown = images.resize_mask(mask, 12)
    assert np.array_equal(grown, np.kron(mask, np.ones((4, 2))))
    assert np.array_equal(images.resize_mask(mask, 3), mask[:, ::2])


def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path):
    deep = GREY.astype(np.uint16) * 256 + 77
    image = images.read_image(saved(tmp_path / "a.png", deep))
    assert np.array_equal(image, np.repeat(GREY[..., None], 3, 2))


def test_a_camera_of_12_bits_is_not_nearly_black(tmp_path):
    deep = GREY.astype(np.uint16) * 16 + 7
    image = images.read_image(saved(tmp_path / "a.png", deep))
    assert np.array_equal(image, np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png", "avif", "mpo"])
def test_a_file_of_several_pages_is_refused(tmp_path, suffix):
    path, pages = tmp_path / f"a.{suffix}", [Image.fromarray(noise(8, 8, 3))] * 2
    pages[1] = Image.fromarray(COLOUR[:6, :6]).resize((8, 8))
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match=r"holds 2 pages; save each as a file of its"):
        images.read_image(path)


def test_smaller_pages_are_previews(tmp_path):
    path, page = tmp_path / "a.tif", Image.fromarray(COLOUR)
    page.save(path, save_all=True, append_images=[page.resize((4, 3))])
    assert np.array_equal(images.read_image(path), COLOUR)


def test_whatever_pillow_raises_is_named(tmp_path, monkeypatch):
    def fail(_):
        raise struct.error("odd")

    path = saved(tmp_path / "a.png", COLOUR)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(UserError, match=r"a\.png: cannot be read as an image \(odd\)"):
        images.read_image(path)


def wordy(path):
    text = PngImagePlugin.PngInfo()
    text.add_text("settings", "x" * 2**21, zip=True)
    saved(path, GREY, pnginfo=text)


def deep(path):
    encoded = cv2.imencode(".tif", COLOUR.astype(np.float32))[1]
    path.write_bytes(encoded)


NOT_READ = {"save it without its text": wordy}
NOT_READ |= {"save it in grey or RGB with 8 or 16 bits": deep}


@pytest.fixture
def limit(monkeypatch):
    """Pillow's limit, which is as it was after the test; pytest keeps the warnings."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    return limit_pixels


def blank(path, width, height):
    """A PNG of so many pixels, but for its pixels."""
    path = saved(path, GREY)
    head = b"IHDR" + struct.pack(">II", width, height) + path.read_bytes()[24:29]
    start = path.read_bytes()[:12] + head + struct.pack(">I", zlib.crc32(head))
    path.write_bytes(start + path.read_bytes()[33:])
    return path


@pytest.mark.parametrize("height", [1001, 2001, 60000])
def test_a_larger_image_is_not_decoded(tmp_path, monkeypatch, limit, height):
    limit(1)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    reason = f"a.png: has {height}000 pixels; raise `max_megapixels`, or save the"
    with pytest.raises(UserError, match=reason):
        images.read_image(blank(tmp_path / "a.png", 1000, height))


def test_a_larger_image_within_a_file_is_not_decoded(tmp_path, limit):
    saved(tmp_path / "a.ico", np.zeros((8, 8, 3), np.uint8), sizes=[(8, 8)])
    inner = blank(tmp_path / "b.png", 1000, 2001).read_bytes()
    head = (tmp_path / "a.ico").read_bytes()[:14] + struct.pack("<II", len(inner), 22)
    (tmp_path / "a.ico").write_bytes(head + inner)
    limit(1)
    with pytest.raises(UserError, match=r"a\.ico: has 2001000 pixels; raise"):
        images.read_image(tmp_path / "a.ico")


@pytest.mark.filterwarnings("error")
def test_an_image_up_to_the_limit_is_decoded_without_a_warning(tmp_path, limit):
    limit(1)
    pixels = np.arange(3_000_000, dtype=np.uint32).astype(np.uint8)
    for shape in ((1000, 1000, 3), (20000, 50, 3), (1, 1_000_000, 3)):
        path = saved(tmp_path / "a.bmp", pixels.reshape(shape))
        assert np.array_equal(images.read_image(path), pixels.reshape(shape))


def test_a_line_scan_longer_than_16_bits_is_resized(tmp_path):
    ramp = np.arange(40_000) * 256 // 40_000
    image = np.repeat(ramp.astype(np.uint8)[None, :, None], 3, axis=2)
    small = images.square(image, 8)[..., 0]
    assert np.abs(small - np.arange(16, 256, 32)).max() <= 1
    assert (
        images.resize_mask(image[..., 0] >= 128, 8).tolist() == [[0] * 4 + [1] * 4] * 8
    )


def test_a_larger_mask_is_not_decoded(tmp_path, limit):
    limit(1)
    image, mask = saved(tmp_path / "a.png", GREY), blank(tmp_path / "m.png", 1001, 1000)
    with pytest.raises(UserError, match=r"m\.png: has 1001000 pixels; raise"):
        images.load_masks([Sample("a", image, 1, mask)], 4, 1)


@pytest.mark.parametrize("remedy", NOT_READ)
def test_a_whole_file_that_is_not_read_needs_no_other(tmp_path, remedy):
    NOT_READ[remedy](tmp_path / "a.png")
    with pytest.raises(UserError, match=rf"a\.png: cannot be read.*; {remedy}$"):
        images.read_image(tmp_path / "a.png")


def test_a_preview_is_not_read_for_a_raw_file(tmp_path):
    path = saved(tmp_path / "a.dng", COLOUR, format="tiff")
    with pytest.raises(UserError, match=r"a\.dng: is in a format that is not read"):
        images.read_image(path)


def test_palette_images_get_their_colours(tmp_path):
    palette = Image.fromarray(GREY // 86, "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "a.png")
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])
    assert np.array_equal(images.read_image(tmp_path / "a.png"), colours[GREY // 86])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_grey_images_get_three_equal_channels(tmp_path, suffix):
    image = images.read_image(saved(tmp_path / f"a.{suffix}", GREY))
    assert np.array_equal(image, np.repeat(GREY[..., None], 3, 2))


def test_channels_are_red_green_blue(tmp_path):
    image = images.read_image(saved(tmp_path / "a.png", COLOUR))
    assert np.array_equal(image, COLOUR)


def test_alpha_is_dropped(tmp_path):
    array = np.dstack([COLOUR, GREY])
    assert np.array_equal(images.read_image(saved(tmp_path / "a.png", array)), COLOUR)


def test_cmyk_is_turned_to_rgb(tmp_path):
    array = np.zeros((3, 4, 4), np.uint8)
    array[..., 1] = 255  # magenta ink
    Image.fromarray(array, "CMYK").save(tmp_path / "a.tif")
    assert np.array_equal(
        images.read_image(tmp_path / "a.tif"), np.full((3, 4, 3), [255, 0, 255])
    )


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_an_image_is_turned_upright(tmp_path, suffix):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:, :16] = 255  # left half bright: the upper one once turned clockwise
    path = saved(tmp_path / f"a.{suffix}", array, exif=exif(6))
    image = images.read_image(path)
    assert image.shape == (32, 16, 3)
    assert image[:14].min() > 200
    assert image[18:].max() < 50


BYTES = {"L": 1, "P": 1, "I;16": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}  # of a pixel


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", BYTES)
def test_an_uncompressed_tiff_is_turned_like_a_compressed_one(
    tmp_path, mode, orientation
):
    image, read = Image.frombytes(mode, (9, 6), noise(6, 9, BYTES[mode])), []
    if mode == "P":
        image.putpalette(noise(256, 3).tobytes())
    for compression in (None, "tiff_lzw"):
        path, data = tmp_path / f"{compression}.tif", exif(orientation)
        image.save(path, exif=data, compression=compression)
        read.append(images.read_image(path))
    assert read[0].shape == ((9, 6, 3) if orientation > 4 else (6, 9, 3))
    assert np.array_equal(*read)


ODD_TAGS = {
    "unit is a fraction": (0x128, 5, 1, struct.pack("<II", 5, 2)),
    "resolution is text": (0x11A, 2, 3, b"72\0"),
    "artist is a fraction": (0x13B, 5, 1, struct.pack("<II", 7, 2)),
}


@pytest.mark.parametrize("tag", ODD_TAGS)
def test_only_the_orientation_of_metadata_counts(tmp_path, tag):
    """Tags of unexpected types, after orientation 6 and before their values."""
    number, kind, count, value = ODD_TAGS[tag]
    fields = struct.pack("<HHIHxx", 0x112, 3, 1, 6)
    fields += struct.pack("<HHI", number, kind, count)
    far = len(value) > 4
    fields += struct.pack("<I", 8 + 2 + 24 + 4) if far else value.ljust(4, b"\0")
    body = struct.pack("<2sHIH", b"II", 42, 8, 2) + fields + bytes(4)
    data = b"Exif\0\0" + body + (value if far else b"")
    path = saved(tmp_path / "a.jpg", COLOUR, exif=data)
    assert images.read_image(path).shape == (9, 6, 3)


def test_the_content_counts_and_not_the_extension(tmp_path):
    saved(tmp_path / "a.jpg", COLOUR, format="png")
    assert np.array_equal(images.read_image(tmp_path / "a.jpg"), COLOUR)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", noise(40, 40, 3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=str(path)):
        images.read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        images.read_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / "a.png")):
        images.read_image(tmp_path / "a.png")


def test_a_truncated_image_with_a_whole_mask_is_named(tmp_path):
    path = saved(tmp_path / "a.png", COLOUR)
    path.write_bytes(path.read_bytes()[:-60])
    mask = saved(tmp_path / "m.png", GREY)
    with pytest.raises(UserError, match=str(path)):
        images.load_masks([Sample("a", path, 1, mask)], 4, 1)


MASK = GREY > 128


def test_a_mask_of_another_size_is_named(tmp_path):
    image = saved(tmp_path / "a.png", COLOUR)
    mask = saved(tmp_path / "m.png", GREY[:, :-1])
    with pytest.raises(UserError, match=f"{mask}.*8x6.*9x6"):
        images.load_masks([Sample("a", image, 1, mask)], 4, 1)


def test_a_mask_turned_otherwise_than_its_image_is_named(tmp_path):
    image = saved(tmp_path / "a.jpg", COLOUR, exif=exif(6))
    mask = saved(tmp_path / "m.png", GREY)
    with pytest.raises(UserError, match=str(mask)):
        images.load_masks([Sample("a", image, 1, mask)], 4, 1)


def spot(folder, name, size):
    """A defect image of 64 x 64 pixels, marked near a corner, of this size."""
    mask = np.zeros((64, 64), np.uint8)
    mask[1 : size + 1, 1 : size + 1] = 255
    image = saved(folder / f"{name}.png", np.zeros((64, 64, 3), np.uint8))
    return Sample(name, image, 1, saved(folder / f"{name}_mask.png", mask))


def test_a_defect_too_small_for_the_resolution_is_warned_about(tmp_path, caplog):
    samples = [spot(tmp_path, "small", 1), spot(tmp_path, "large", 30)]
    masks = images.load_masks(samples, 8, 1)["masks"]
    assert masks.any((1, 2)).tolist() == [False, True]
    lost = f"{samples[0].mask}: marks no pixel at 8 x 8, and counts as good"
    assert caplog.messages == [lost]


def test_masks_that_all_vanish_are_refused(tmp_path):
    sample = spot(tmp_path, "small", 1)
    with pytest.raises(UserError, match=f"{sample.mask}.*at 8 x 8; raise `resolution`"):
        images.load_masks([sample], 8, 1)


def test_an_empty_mask_is_named(tmp_path):
    image = saved(tmp_path / "a.png", COLOUR)
    mask = saved(tmp_path / "m.png", np.zeros_like(GREY))
    with pytest.raises(UserError, match=f"{mask}: marks no pixel"):
        images.load_masks([Sample("a", image, 1, mask)], 4, 1)


def test_a_defect_image_without_mask_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.png: defect image without a mask"):
        images.load_masks([Sample("a", tmp_path / "a.png", 1, None)], 4, 1)


def test_a_mask_file_that_is_gone_is_named(tmp_path):
    image = saved(tmp_path / "a.png", COLOUR)
    with pytest.raises(UserError, match=str(tmp_path / "m.png")):
        images.load_masks([Sample("a", image, 1, tmp_path / "m.png")], 4, 1)


@pytest.fixture
def samples(tmp_path):
    image = saved(tmp_path / "a.png", COLOUR)
    dented = saved(tmp_path / "b.png", COLOUR)
    mask = saved(tmp_path / "m.png", MASK)
    return [Sample("good/a.png", image, 0, None), Sample("dent/a.png", dented, 1, mask)]


@pytest.mark.parametrize("threads", [1, 2])
def test_images_are_loaded_in_order(samples, threads):
    made = {}
    loaded = images.load_images(samples, made.__setitem__, threads)
    assert np.array_equal([made[0], made[1]], [COLOUR] * 2)
    assert loaded["shapes"].tolist() == [[6, 9]] * 2
    assert loaded["labels"].tolist() == [0, 1]
    assert loaded["names"].tolist() == ["good/a.png", "dent/a.png"]


def test_a_class_may_have_no_test_images():
    loaded = images.load_images([], None, 1)
    assert loaded["shapes"].shape == (0, 2)
    assert loaded["names"].dtype.kind == "U"
    assert images.load_masks([], 5, 1)["masks"].shape == (0, 5, 5)


def test_doubtful_images_are_one_warning_a_kind(tmp_path, caplog):
    arrays = [COLOUR, COLOUR, COLOUR, COLOUR // 8, np.full_like(COLOUR, 200)]
    samples = [
        Sample(str(i), saved(tmp_path / f"{i}.png", array), 0, None)
        for i, array in enumerate(arrays)
    ]
    notes = images.load_images(samples, lambda *_: None, 2)["notes"].tolist()
    dark, flat, twins = caplog.messages
    folder = f"{tmp_path.parent}/"
    assert notes == [message.removeprefix(folder) for message in caplog.messages]
    assert dark.startswith(f"{samples[3].path}: is nearly black (brightest value 31")
    assert flat.startswith(f"{samples[4].path}: is of one colour")
    assert twins.startswith(f"{samples[1].path} (and 1 more): the same image as")


def test_good_images_get_empty_masks(samples):
    loaded = images.load_masks(samples, 12, 2)
    assert loaded["masks"].dtype == np.uint8
    assert not loaded["masks"][0].any()
    assert np.array_equal(loaded["masks"][1], images.resize_mask(MASK, 12))
    assert loaded["names"].tolist() == ["good/a.png", "dent/a.png"]


def test_raw_masks_keep_the_size_of_their_image(tmp_path, samples):
    small = spot(tmp_path, "small", 1)
    arrays = images.load_masks([samples[0], small, samples[1]], "raw", 2)
    assert {n: x.shape for n, x in arrays.items() if n.startswith("masks")} == {
        "masks.0": (2, 6, 9),
        "masks.1": (1, 64, 64),
    }
    good, spotted, dented = images.masks_in_order(arrays, "raw")
    assert good.dtype == spotted.dtype == np.uint8
    assert not good.any()
    assert spotted.sum() == 1
    assert np.array_equal(dented, MASK)
    assert arrays["names"].tolist() == ["good/a.png", "small", "dent/a.png"]


def test_raw_masks_of_one_size_are_one_array(samples):
    arrays = images.load_masks(samples, "raw", 1)
    assert arrays["masks"].shape == (2, 6, 9)
    assert len(images.masks_in_order(arrays, "raw")) == 2


@pytest.mark.parametrize("resolution", ["raw", 5])
def test_masks_of_no_images_are_none(resolution):
    arrays = images.load_masks([], resolution, 1)
    assert len(images.masks_in_order(arrays, resolution)) == 0


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(tmp_path, dtype):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.zeros((4, 4), dtype)).save(path)
    with pytest.raises(UserError, match=r"deep\.tif: has 32-bit pixels"):
        images.read_image(path)


def test_a_written_image_comes_back(tmp_path):
    images.write_image(tmp_path / "below/a.png", COLOUR)
    assert np.array_equal(images.read_image(tmp_path / "below/a.png"), COLOUR)


def test_the_time_of_a_written_image_does_not_grow_with_its_folder(
    tmp_path, monkeypatch
):
    def listed(*_):
        raise AssertionError

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(f"os.{name}", listed)
    images.write_image(tmp_path / "a.png", COLOUR)
    assert (tmp_path / "a.png").exists()


def test_written_floats_keep_their_bits(tmp_path):
    array = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    images.write_image(tmp_path / "a.tiff", array)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.tiff")), array)
