import numpy as np
import pytest
import torch

from fsad.artifacts.files import read_npz, write_npz
from fsad.artifacts.sources import Embedding, Source
from fsad.backbones import embed
from fsad.backbones.embed import (
    embed_batch,
    embed_images,
    embed_set,
    normalise_pixels,
    write_features,
)
from fsad.backbones.readout import VARIANTS
from fsad.backbones.tower import save_tower
from fsad.errors import UserError
from helpers import NEEDS_GPU, relative_error

VARIANT = VARIANTS["original"]
RECORD = {"device": "cpu", "precision": "float32"}
RECORD |= {"readout": {"name": "original", "fields": VARIANT._asdict()}}


@pytest.fixture(scope="module")
def images(pixels):
    labels, names = np.array([0, 1, 1], np.uint8), np.array(["a", "b", "c"])
    return {"images": pixels, "labels": labels, "names": names}


def test_pixels_are_normalised_channel_by_channel(towers, pixels):
    mean, std = (
        [0.48145466, 0.4578275, 0.40821073],
        [0.26862954, 0.26130258, 0.27577711],
    )
    normal = normalise_pixels(pixels, towers[0])
    expected = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert np.allclose(normal, expected, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_batches_do_not_change_the_features(batch, towers, pixels):
    whole = embed_batch(towers[0], pixels, VARIANT)
    parts = embed_images(towers[0], pixels, VARIANT, batch)
    assert parts.keys() == {"global", "patch", "mid1", "mid2"}
    for feature, expected in whole.items():
        assert relative_error(parts[feature], expected) < 1e-6


def test_the_features_of_a_set_carry_labels_and_names(towers, images):
    features = embed_set(towers[0], images, VARIANT)
    expected = embed_images(towers[0], images["images"], VARIANT)
    assert features.keys() == expected.keys() | {"labels", "names"}
    assert features["labels"].tolist() == [0, 1, 1]
    assert features["names"].tolist() == ["a", "b", "c"]
    assert all(np.array_equal(features[name], x) for name, x in expected.items())


@pytest.fixture
def cached(tmp_path, towers, images):
    """A stored tower, and two sets of images to embed: of all and of one."""
    tower, work = Source(tmp_path / "vision.safetensors", {"part": "vision"}), []
    save_tower(tower.path, towers[0], tower.record)
    for name, count in (("test", 3), ("support", 1)):
        source = Source(tmp_path / f"{name}.npz", {"images": name})
        arrays = {key: array[:count] for key, array in images.items()}
        write_npz(source.path, arrays, source.record)
        target = Source(tmp_path / f"features/{name}.npz", RECORD | {"images": name})
        work.append(Embedding(source, target))
    return tower, work


def test_features_are_written_with_their_records(cached, towers, images):
    tower, work = cached
    write_features(tower, work)
    test, support = (read_npz(path, record=record) for _, (path, record) in work)
    expected = embed_set(towers[0], images, VARIANT)
    assert all(np.array_equal(test[name], array) for name, array in expected.items())
    assert support["names"].tolist() == ["a"]
    assert relative_error(support["patch"], expected["patch"][:1]) < 1e-6


def test_only_missing_features_are_written(cached, monkeypatch):
    tower, (test, support) = cached
    write_features(tower, [test])
    before = test.features.path.stat().st_mtime_ns
    write_features(tower, [test, support])
    assert test.features.path.stat().st_mtime_ns == before
    assert support.features.path.exists()
    monkeypatch.setattr(embed, "load_tower", None)  # nothing is missing any more
    write_features(tower, [test, support])


def test_inputs_of_another_record_are_refused(cached):
    tower, work = cached
    with pytest.raises(UserError, match="is of part vision, not text"):
        write_features(tower._replace(record={"part": "text"}), work)
    images, features = work[0]
    other = Embedding(images._replace(record={"images": "other"}), features)
    with pytest.raises(UserError, match="is of images test, not other"):
        write_features(tower, [other])


@NEEDS_GPU
def test_features_of_a_gpu_are_those_of_the_cpu(towers, pixels):
    gpu = towers[0].to("cuda", "float32")
    expected = embed_images(towers[0], pixels, VARIANT)
    for batch in (1, 3):
        features = embed_images(gpu, pixels, VARIANT, batch)
        assert all(relative_error(features[n], x) < 1e-5 for n, x in expected.items())
    assert torch.device("cuda", 0) == embed_batch(gpu, pixels, VARIANT)["patch"].device
