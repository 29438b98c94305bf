import contextlib
import os
import stat

import pytest
import torch

from fsad.backbones.tower import (
    CHECKSUM,
    Tower,
    load_tensors,
    load_tower,
    save_tensors,
    save_tower,
    weights_digest,
)
from fsad.errors import UserError
from helpers import NEEDS_GPU

TOWER = Tower(
    {"proj": torch.arange(6.0).view(2, 3), "ln.bias": torch.ones(2)}, {"heads": 2}
)
RECORD = {"stage": "backbone", "part": "vision", "code": "1"}


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "features/tiny/vision.safetensors"
    save_tower(path, TOWER, {})
    return path


def assert_same(tower):
    assert tower.config == TOWER.config
    assert tower.weights.keys() == TOWER.weights.keys()
    assert all(torch.equal(w, TOWER.weights[n]) for n, w in tower.weights.items())


def test_a_tower_comes_back(stored):
    assert_same(load_tower(stored))


def test_views_are_stored_as_they_look(tmp_path):
    view = TOWER.weights["proj"].T
    save_tower(tmp_path / "a", Tower({"proj": view}, {}), {})
    assert torch.equal(load_tower(tmp_path / "a").weights["proj"], view)


def test_the_same_tower_gives_the_same_bytes(stored, tmp_path):
    save_tower(tmp_path / "again.safetensors", TOWER, {})
    assert (tmp_path / "again.safetensors").read_bytes() == stored.read_bytes()


@pytest.mark.parametrize("length", [0, 5, 60, -1])
def test_a_truncated_tower_is_named(stored, length):
    stored.write_bytes(stored.read_bytes()[:length])
    with pytest.raises(UserError, match=f"{stored}: damaged"):
        load_tower(stored)


def test_a_damaged_configuration_is_named(stored):
    content = stored.read_bytes()
    stored.write_bytes(content.replace(rb"{\"heads\": 2}", rb"{\"heads\": x}"))
    with pytest.raises(UserError, match=f"{stored}: damaged"):
        load_tower(stored)


def test_a_missing_tower_is_named(tmp_path):
    with pytest.raises(UserError, match=r"tower\.safetensors"):
        load_tower(tmp_path / "tower.safetensors")


def test_a_flipped_bit_is_noticed_or_harmless(stored):
    whole = stored.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 0x40
        stored.write_bytes(content)
        with contextlib.suppress(UserError):
            assert_same(load_tower(stored))


def test_a_tower_of_another_record_is_refused(stored):
    settings = RECORD | {"provenance": {"python": "3"}}
    save_tower(stored, TOWER, settings)
    assert_same(load_tower(stored, RECORD))
    with pytest.raises(UserError, match=f"{stored}: is of code 1, not 2"):
        load_tower(stored, RECORD | {"code": "2"})


def test_tensors_come_back_with_their_description(tmp_path):
    described = {"settings": {"class": "nut"}, "numbers": [1, 2]}
    save_tensors(tmp_path / "a", TOWER.weights, described)
    weights, found = load_tensors(tmp_path / "a", "settings")
    assert found == described
    assert_same(Tower(weights, TOWER.config))
    with pytest.raises(UserError, match=f"a: damaged, or no file .*{CHECKSUM}"):
        load_tensors(tmp_path / "a", CHECKSUM)


def test_only_products_of_blocks_take_the_precision(towers):
    for tower in towers:
        half = tower.to("cpu", "bfloat16")
        assert half.config is tower.config
        for name, weight in half.weights.items():
            block = name.startswith("transformer.") and ".ln_" not in name
            assert weight.dtype == (torch.bfloat16 if block else torch.float32), name


def test_float32_leaves_a_tower_as_it_is(towers):
    same = towers[0].to("cpu", "float32")
    assert all(w is towers[0].weights[name] for name, w in same.weights.items())


def test_the_device_is_that_of_the_weights(towers):
    assert [tower.device.type for tower in towers] == ["cpu", "cpu"]
    elsewhere = Tower({"positional_embedding": torch.empty(2, 3, device="meta")}, {})
    assert elsewhere.device.type == "meta"


def test_products_of_a_network_of_timm_take_the_precision():
    names = ("blocks.0.attn.qkv.weight", "blocks.0.norm1.weight", "blocks.0.mlp.bias")
    shapes = {**dict.fromkeys(names, (4,)), names[0]: (4, 4), "pos_embed": (1, 3, 4)}
    weights = {name: torch.zeros(shape) for name, shape in shapes.items()}
    half = Tower(weights, {"library": "timm"}).to("cpu", "bfloat16")
    cast = {n for n, weight in half.weights.items() if weight.dtype == torch.bfloat16}
    assert cast == {"blocks.0.attn.qkv.weight"}


@NEEDS_GPU
def test_a_tower_moves_to_a_gpu(towers):
    moved = towers[0].to("cuda", "float32")
    assert moved.device.type == "cuda"
    assert {weight.device for weight in moved.weights.values()} == {moved.device}


def test_a_digest_depends_on_names_types_shapes_and_numbers():
    weight = torch.arange(6.0).view(2, 3)
    others = {
        "name": {"b": weight},
        "type": {"a": weight.bfloat16()},
        "shape": {"a": weight.view(3, 2)},
        "number": {"a": weight + 1e-6},
    }
    digests = {weights_digest({"a": weight}), *map(weights_digest, others.values())}
    assert len(digests) == 5
    assert weights_digest({"a": weight.T.contiguous().T}) in digests


def test_others_may_read_a_tower(stored):
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(stored.stat().st_mode) == 0o666 & ~mask


def test_a_tower_without_permission_is_not_called_damaged(tmp_path, unreadable):
    path = unreadable(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"a\.safetensors: cannot be read \(Permission"):
        load_tower(path)
