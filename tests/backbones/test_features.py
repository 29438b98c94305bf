"""Features of sets of images: written, read block by block, and computed."""

import numpy as np
import pytest

from fsad.artifacts.files import read_npz, write_npz
from fsad.artifacts.sources import Embedding, Source
from fsad.backbones import features
from fsad.backbones.embed import embed_batch, embed_support
from fsad.backbones.features import (
    computed_features,
    embed_draw,
    embed_test,
    open_vision,
    stored_features,
    write_features,
)
from fsad.backbones.networks import open_network
from fsad.backbones.readout import VARIANTS, Readout, described, variant_readout
from fsad.backbones.tower import save_tower
from fsad.data.augment import Augment
from fsad.data.groups import in_order, split, stacked
from fsad.data.views import View
from fsad.errors import UserError

VIEW = View("square", 32)
PROMPTAD = variant_readout(VARIANTS["original"], VIEW)
LAST = {"blocks": "last", "norm": True, "moments": False}
TOKENS = Readout("t", "tokens", VIEW, Augment("rotations", 2), LAST)
MOMENTS = TOKENS._replace(fields=LAST | {"moments": True})
SQUARE, WIDE = (32, 32, 3), (32, 48, 3)
SHAPES = {
    "one shape": [SQUARE] * 11,  # more than a batch
    "several shapes": [SQUARE, WIDE] * 2 + [SQUARE] * 7,
    "none": [],
}


def image_set(shapes):
    """Random test images of these shapes, as they are cached."""
    generator = np.random.default_rng(0)
    items = [generator.integers(0, 256, shape, np.uint8) for shape in shapes]
    names = np.array([f"{index}" for index in range(len(items))], str)
    labels = np.array([index % 2 for index in range(len(items))], np.uint8)
    known = {
        "labels": labels,
        "names": names,
        "shapes": np.array(shapes, int)[:, :2] if shapes else np.empty((0, 2), int),
    }
    return stacked([{"images": item} for item in items], {"images": SQUARE}) | known


def draw(copies):
    """Three support images of two copies each, or of one, as they are cached."""
    shape = (3, copies, *SQUARE)
    return {"images": np.random.default_rng(1).integers(0, 256, shape, np.uint8)}


@pytest.fixture(scope="module")
def network(towers):
    return open_network(towers[0])


@pytest.fixture
def kept(tmp_path, towers):
    """Writes images, and their features; returns the source of these."""

    def write(images, readout, stage="images"):
        tower = Source(tmp_path / "vision.safetensors", {"part": "vision"})
        save_tower(tower.path, towers[0], tower.record)
        source = Source(tmp_path / "images.npz", {"stage": stage})
        write_npz(source.path, images, source.record)
        record = {"device": "cpu", "precision": "float32"}
        record |= {"readout": described(readout)}
        target = Source(tmp_path / "features.npz", record)
        write_features(tower, [Embedding(source, target)])
        return target

    return write


def assert_same_blocks(one, other):
    assert one.labels.tolist() == other.labels.tolist()
    assert one.names.tolist() == other.names.tolist()
    for ours, theirs in zip(one.blocks(), other.blocks(), strict=True):
        assert ours[0] == theirs[0]
        rows = (
            found.rows[group][some].tolist()
            for found, (group, some, _) in ((one, ours), (other, theirs))
        )
        assert next(rows) == next(rows)
        assert ours[2].keys() == theirs[2].keys()
        for name, array in ours[2].items():
            assert array.dtype == theirs[2][name].dtype
            assert np.array_equal(array, theirs[2][name])


@pytest.mark.parametrize("readout", [PROMPTAD, TOKENS], ids=["promptad", "tokens"])
@pytest.mark.parametrize("kind", SHAPES)
def test_stored_features_are_the_computed_ones(network, kept, readout, kind):
    images = image_set(SHAPES[kind])
    stored = stored_features(kept(images, readout))
    computed = computed_features(network, images, readout)
    assert_same_blocks(stored, computed)
    assert_same_blocks(stored, computed)  # they can be read several times


@pytest.mark.parametrize("kind", SHAPES)
def test_every_image_is_in_one_block_of_its_shape(network, kind):
    images, seen = image_set(SHAPES[kind]), []
    computed = computed_features(network, images, TOKENS)
    for group, some, block in computed.blocks():
        rows = computed.rows[group][some]
        expected = {tuple(side // 8 for side in SHAPES[kind][i][:2]) for i in rows}
        assert {block["patch"].shape[1:3]} == (expected or {(4, 4)})
        assert len(block["patch"]) == len(rows) <= 8
        seen += rows.tolist()
    assert sorted(seen) == [*range(len(SHAPES[kind]))]


def test_features_of_several_shapes_are_stored_by_their_rows(network):
    images = image_set(SHAPES["several shapes"])
    found = in_order(embed_test(network, images, TOKENS), "patch")
    for image, patch in zip(in_order(images, "images"), found, strict=True):
        alone = embed_batch(network, image[None], TOKENS)["patch"][0]
        assert patch.shape == alone.shape
        assert patch == pytest.approx(alone.numpy(), abs=2e-3)  # float16


def test_labels_and_names_stand_beside_the_features(network):
    images = image_set([SQUARE] * 3)
    found = embed_test(network, images, PROMPTAD)
    assert found["labels"].tolist() == [0, 1, 0]
    assert found["names"].tolist() == ["0", "1", "2"]
    assert found.keys() == {"global", "patch", "mid1", "mid2", "labels", "names"}


@pytest.mark.parametrize(
    ("readout", "copies", "dtypes"),
    [
        (PROMPTAD, 1, {"float32"}),
        (TOKENS, 2, {"float16"}),
        (MOMENTS, 2, {"float64"}),
    ],
    ids=["promptad", "tokens", "moments"],
)
def test_only_patches_that_are_compared_alone_are_halved(
    network, kept, readout, copies, dtypes
):
    found = embed_draw(network, draw(copies), readout)
    assert {str(array.dtype) for array in found.values()} == dtypes
    whole = embed_support(network, draw(copies), readout)
    for name, array in found.items():
        assert np.array_equal(array, whole[name].numpy().astype(array.dtype))
    written = read_npz(kept(draw(copies), readout, stage="support").path)
    assert written.keys() == found.keys()
    assert all(np.array_equal(written[name], x) for name, x in found.items())


def test_several_shapes_have_arrays_of_their_own(network):
    found = embed_test(network, image_set(SHAPES["several shapes"]), TOKENS)
    (squares, first), (wide, second) = split(found, ["patch"])
    assert wide.tolist() == [1, 3]
    assert sorted(squares) == [0, 2, *range(4, 11)]
    assert first["patch"].shape == (9, 4, 4, 32)
    assert second["patch"].shape == (2, 4, 6, 32)


@pytest.fixture
def cached(tmp_path, towers):
    """A stored tower, and two sets of images to embed: of all and of one."""
    tower, work = Source(tmp_path / "vision.safetensors", {"part": "vision"}), []
    save_tower(tower.path, towers[0], tower.record)
    sets = {"test": image_set([SQUARE] * 3), "support": draw(1)}
    record = {"device": "cpu", "precision": "float32"}
    record |= {"readout": described(PROMPTAD)}
    for name, arrays in sets.items():
        known = {"images": name, "stage": name}
        source = Source(tmp_path / f"{name}.npz", known)
        write_npz(source.path, arrays, source.record)
        target = Source(tmp_path / f"features/{name}.npz", record | {"images": name})
        work.append(Embedding(source, target))
    return tower, work


def test_features_are_written_with_their_records(cached, network):
    tower, work = cached
    write_features(tower, work)
    test, support = (read_npz(path, record=record) for _, (path, record) in work)
    expected = embed_test(network, image_set([SQUARE] * 3), PROMPTAD)
    assert all(np.array_equal(test[name], array) for name, array in expected.items())
    assert support["patch"].shape == (3, 4, 4, 24)


def test_only_missing_features_are_written(cached, monkeypatch):
    tower, (test, support) = cached
    write_features(tower, [test])
    before = test.features.path.stat().st_mtime_ns
    write_features(tower, [test, support])
    assert test.features.path.stat().st_mtime_ns == before
    assert support.features.path.exists()
    monkeypatch.setattr(features, "load_tower", None)  # nothing is missing any more
    write_features(tower, [test, support])


def test_inputs_of_another_record_are_refused(cached):
    tower, work = cached
    with pytest.raises(UserError, match="is of part vision, not text"):
        write_features(tower._replace(record={"part": "text"}), work)
    images, target = work[0]
    wrong = images._replace(record=images.record | {"images": "other"})
    with pytest.raises(UserError, match="is of images test, not other"):
        write_features(tower, [Embedding(wrong, target)])


def test_stored_features_of_another_record_are_refused(kept):
    source = kept(image_set([SQUARE]), TOKENS)
    with pytest.raises(UserError, match=r"features\.npz: is of device cpu, not cuda"):
        stored_features(source._replace(record={"device": "cuda"}))


def test_a_damaged_byte_of_stored_features_is_noticed(kept):
    source = kept(image_set([SQUARE] * 3), TOKENS)
    content = bytearray(source.path.read_bytes())
    content[content.index(b"patch.npy") + 2000] ^= 1
    source.path.write_bytes(content)
    with pytest.raises(UserError, match=r"features\.npz: damaged"):
        stored_features(source)


def test_a_device_that_is_not_there_is_refused(cached):
    tower, _ = cached
    with pytest.raises(UserError, match="device: cuda:99"):
        open_vision(tower, {"device": "cuda:99", "precision": "float32"})
