import shutil

import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.files import read_npz, read_settings
from fsad.artifacts.sources import Source
from fsad.data import prepare
from fsad.data.images import load_images, load_masks
from fsad.data.layouts import list_class
from fsad.data.prepare import write_class, write_masks
from fsad.errors import UserError
from helpers import write_class as make_class


@pytest.fixture
def samples(tmp_path):
    make_class(tmp_path / "data", "nut", train=1, good=1, defects=("hole",), each=1)
    return list_class("folder", tmp_path / "data", "nut").test


@pytest.fixture
def targets(tmp_path, samples):
    """A class, and where its test images and one support image are cached."""
    files = list_class("folder", tmp_path / "data", "nut")
    record = {"size": 8, "images": [[files.train[0].name, ""]]}
    return files, *(Source(tmp_path / name, record) for name in ("t.npz", "s.npz"))


def test_images_are_written_with_their_record(samples, targets, caplog):
    files, test, support = targets
    write_class(files, test, [support], 1)
    written = read_npz(test.path, record=test.record)
    expected = load_images(samples, 8, 1)
    assert written.keys() == expected.keys()
    assert all(np.array_equal(written[name], x) for name, x in expected.items())
    assert read_settings(test.path).keys() == {*test.record, "provenance"}
    drawn = read_npz(support.path)
    assert (drawn["images"].shape, drawn["shapes"].tolist()) == (
        (1, 8, 8, 3),
        [[40, 40]],
    )
    assert caplog.messages == drawn["notes"].tolist() == []


def test_images_are_decoded_again_only_for_another_record(targets, monkeypatch):
    files, test, support = targets
    write_class(files, test, [support], 1)
    decoded = []
    monkeypatch.setattr(
        prepare, "load_images", lambda *a: decoded.append(a[0]) or load_images(*a)
    )
    write_class(files, test, [support], 1)
    assert decoded == []
    write_class(files, test, [support._replace(record=support.record | {"seed": 1})], 1)
    assert decoded == [files.train[:1]]
    # Support images too, whose notes compare them with the test images.
    write_class(
        files, test._replace(record=test.record | {"code": "new"}), [support], 1
    )
    assert decoded[1:] == [files.test, files.train[:1]]


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
    write_class(files, test, [support], 1)
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
    write_class(files, test, [support], 1)
    assert f"{samples[0].path}: uses 12 of its 16 bits, others 16" in caplog.text
