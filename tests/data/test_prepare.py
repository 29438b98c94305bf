import shutil

import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.files import read_npz, read_settings
from fsad.artifacts.sources import Source
from fsad.data import prepare
from fsad.data.images import load_images, load_masks
from fsad.data.layouts import list_class
from fsad.data.prepare import write_images, write_masks
from fsad.errors import UserError
from helpers import write_class


@pytest.fixture
def samples(tmp_path):
    write_class(tmp_path / "data", "nut", train=1, good=1, defects=("hole",), each=1)
    return list_class("folder", tmp_path / "data", "nut").test


def test_images_are_written_with_their_record(tmp_path, samples):
    record = {"class": "nut", "size": 8}
    write_images(Source(tmp_path / "test.npz", record), samples, 1)
    written = read_npz(tmp_path / "test.npz", record=record)
    expected = load_images(samples, 8, 1)
    assert written.keys() == expected.keys()
    assert all(np.array_equal(written[name], x) for name, x in expected.items())
    assert read_settings(tmp_path / "test.npz").keys() == {*record, "provenance"}


def test_images_are_decoded_again_only_for_another_record(
    tmp_path, samples, monkeypatch
):
    target = Source(tmp_path / "test.npz", {"class": "nut", "size": 8})
    write_images(target, samples, 1)
    before = target.path.read_bytes()
    monkeypatch.setattr(prepare, "load_images", lambda *_: {"images": np.zeros(3)})
    write_images(target, samples, 1)
    assert target.path.read_bytes() == before
    write_images(target._replace(record={"class": "nut", "size": 9}), samples, 1)
    assert target.path.read_bytes() != before


def test_masks_are_written_with_their_record(tmp_path, samples):
    record = {"class": "nut", "resolution": 16}
    write_masks(Source(tmp_path / "masks.npz", record), samples, 1)
    written = read_npz(tmp_path / "masks.npz", record=record)
    assert np.array_equal(written["masks"], load_masks(samples, 16, 1)["masks"])
    with pytest.raises(UserError, match="is of resolution 16, not 8"):
        read_npz(tmp_path / "masks.npz", record=record | {"resolution": 8})


def test_test_images_are_compared_with_support_images(tmp_path, samples, caplog):
    files = list_class("folder", tmp_path / "data", "nut")
    record = {"size": 8, "images": [[files.train[0].name, ""]]}
    test, support = (Source(tmp_path / name, record) for name in ("t.npz", "s.npz"))
    prepare.write_class(files, test, [support], 1)
    assert read_npz(test.path, "names")["names"].tolist() == [s.name for s in samples]
    assert read_npz(support.path, "images")["images"].shape == (1, 8, 8, 3)
    assert caplog.messages == []
    shutil.copy(files.train[0].path, samples[1].path)
    Image.new("RGB", (40, 20), "red").save(samples[0].path)
    test.path.unlink()
    prepare.write_class(files, test, [support], 1)
    twin, aspect = caplog.messages[-2:]
    assert twin.startswith(f"{samples[1].path}: the same image as one to learn from")
    assert aspect.startswith(f"{samples[0].path}: is 40x20 pixels, of another aspect")
