import shutil

import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.files import read_npz, read_settings
from fsad.artifacts.sources import Source
from fsad.data import prepare
from fsad.data.augment import Augment, copies
from fsad.data.groups import in_order
from fsad.data.images import load_images, load_masks, read_image
from fsad.data.layouts import list_class
from fsad.data.prepare import (
    load_support,
    load_test,
    random_key,
    write_class,
    write_masks,
)
from fsad.data.views import View, resized
from fsad.errors import UserError
from helpers import write_class as make_class

VIEW = View("square", 8)
SUPPORT = {"view": VIEW._asdict(), "augment": Augment()._asdict()}
SUPPORT |= {"seed": 1, "class": "nut"}


@pytest.fixture
def samples(tmp_path):
    make_class(tmp_path / "data", "nut", train=1, good=1, defects=("hole",), each=1)
    return list_class("folder", tmp_path / "data", "nut").test


@pytest.fixture
def targets(tmp_path, samples):
    """A class, and where its test images and one support image are cached."""
    files = list_class("folder", tmp_path / "data", "nut")
    drawn = {**SUPPORT, "images": [[files.train[0].name, ""]]}
    records = {"t.npz": {"view": VIEW._asdict()}, "s.npz": drawn}
    return files, *(Source(tmp_path / name, record) for name, record in records.items())


def test_images_are_written_with_their_record(samples, targets, caplog):
    files, test, support = targets
    write_class(files, [test], [support], 1)
    written = read_npz(test.path, record=test.record)
    (expected,) = load_test(samples, [VIEW], 1)
    assert written.keys() == expected.keys()
    assert all(np.array_equal(written[name], x) for name, x in expected.items())
    assert read_settings(test.path).keys() == {*test.record, "provenance"}
    drawn = read_npz(support.path)
    assert (drawn["images"].shape, drawn["shapes"].tolist()) == (
        (1, 1, 8, 8, 3),
        [[40, 40]],
    )
    assert caplog.messages == drawn["notes"].tolist() == []


def test_images_are_decoded_again_only_for_another_record(targets, monkeypatch):
    files, test, support = targets
    write_class(files, [test], [support], 1)
    decoded = []
    monkeypatch.setattr(
        prepare, "load_images", lambda *a: decoded.append(a[0]) or load_images(*a)
    )
    write_class(files, [test], [support], 1)
    assert decoded == []
    other = support._replace(record=support.record | {"seed": 2})
    write_class(files, [test], [other], 1)
    assert decoded == [files.train[:1]]
    # Support images too, whose notes compare them with the test images.
    other = test._replace(record=test.record | {"code": "new"})
    write_class(files, [other], [support], 1)
    assert decoded[1:] == [files.test, files.train[:1]]


def test_a_region_too_small_for_the_backbone_is_refused(samples):
    region = np.zeros((40, 40), bool)
    region[0, 0] = True
    with pytest.raises(UserError, match=r"roi: .* no pixel in images of 8 pixels"):
        load_test(samples, [VIEW], 1, region)


def test_one_decoding_serves_several_views(samples, targets, monkeypatch):
    """A view that is there stays as it is where another is added."""
    files, test, support = targets
    write_class(files, [test], [support], 1)
    before = test.path.stat().st_mtime_ns
    edge = View("edge", 6, "bicubic")
    added = test._replace(path=test.path.with_name("e.npz"))
    added = added._replace(record={"view": edge._asdict()})
    write_class(files, [test, added], [support], 1)
    assert test.path.stat().st_mtime_ns == before
    expected = [resized(read_image(sample.path), edge) for sample in samples]
    assert np.array_equal(read_npz(added.path)["images"], expected)
    made = load_test(samples, [VIEW, edge], 1)
    assert [found["images"].shape[1:3] for found in made] == [(8, 8), (6, 6)]


def test_test_images_of_several_shapes_are_stored_by_shape(samples, tmp_path):
    Image.new("RGB", (60, 40), "red").save(samples[0].path)
    edge = View("edge", 8)
    ((made),) = load_test(samples, [edge], 1)
    assert {n for n in made if n.startswith("images")} == {"images.0", "images.1"}
    shapes = [image.shape for image in in_order(made, "images")]
    assert shapes == [(8, 12, 3), (8, 8, 3)]
    assert made["names"].tolist() == [sample.name for sample in samples]


def test_a_class_may_have_no_test_images():
    for view in (View("square", 5), View("edge", 5)):
        (made,) = load_test([], [view], 1)
        assert made["images"].shape == (0, 5, 5, 3)


def test_copies_of_support_images_are_made_before_they_are_resized(targets):
    """Those of an image are the same in every draw that has it in its place."""
    files, *_ = targets
    turned = Augment("random_rotations", 3)
    record = SUPPORT | {"augment": turned._asdict()}
    found = load_support(files.train, record, 1)["images"]
    image = read_image(files.train[0].path)
    expected = copies(image, turned, (*random_key(1, "nut"), 0))
    assert np.array_equal(found[0], [resized(copy, VIEW) for copy in expected])
    other = load_support(files.train, record | {"seed": 2}, 1)["images"]
    assert np.array_equal(other[0, 0], found[0, 0])
    assert not np.array_equal(other[0, 1:], found[0, 1:])


def test_support_images_of_several_shapes_are_refused(tmp_path):
    make_class(tmp_path / "data", "nut", train=2)
    files = list_class("folder", tmp_path / "data", "nut")
    Image.new("RGB", (60, 40), "red").save(files.train[0].path)
    record = SUPPORT | {"view": View("edge", 8)._asdict()}
    with pytest.raises(
        UserError, match=r"fit: edge, .* the support images .* one shape"
    ):
        load_support(files.train, record, 1)
    load_support(files.train, SUPPORT, 1)


def test_masks_are_written_with_their_record(tmp_path, samples):
    record = {"class": "nut", "resolution": 16}
    write_masks(Source(tmp_path / "masks.npz", record), samples, 1)
    written = read_npz(tmp_path / "masks.npz", record=record)
    assert np.array_equal(written["masks"], load_masks(samples, 16, 1)["masks"])
    with pytest.raises(UserError, match="is of resolution 16, not 8"):
        read_npz(tmp_path / "masks.npz", record=record | {"resolution": 8})


def test_test_images_are_compared_with_support_images(samples, targets, caplog):
    files, test, support = targets
    shutil.copy(files.train[0].path, samples[1].path)
    Image.new("RGB", (40, 20), "red").save(samples[0].path)
    write_class(files, [test], [support], 1)
    assert [note.split(":")[0] for note in caplog.messages] == [
        str(samples[index].path) for index in (0, 1, 0)
    ]
    twin, aspect = read_npz(support.path)["notes"]
    assert twin == (
        f"{samples[1].name}: the same image as one to learn from (good/000.png); "
        "remove one"
    )
    assert aspect.startswith(f"{samples[0].name}: is 40x20 pixels, of another aspect")


def test_images_that_use_fewer_bits_than_those_learned_from(samples, targets, caplog):
    files, test, support = targets
    for sample, scale in ((files.train[0], 256), (samples[0], 16)):
        deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 16 * scale
        Image.fromarray(deep).save(sample.path)
    write_class(files, [test], [support], 1)
    assert f"{samples[0].path}: uses 12 of its 16 bits, others 16" in caplog.text
