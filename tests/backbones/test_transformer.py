import contextlib

import pytest
import torch

from fsad.backbones.transformer import (
    Tower,
    attend,
    load_tower,
    placed,
    save_tower,
    weights_digest,
)
from fsad.errors import UserError

TOWER = Tower(
    {"proj": torch.arange(6.0).view(2, 3), "ln.bias": torch.ones(2)}, {"heads": 2}
)


@pytest.fixture
def stored(tmp_path):
    save_tower(tmp_path / "tower.safetensors", TOWER, {})
    return tmp_path / "tower.safetensors"


def test_a_tower_comes_back(stored):
    tower = load_tower(stored)
    assert tower.config == TOWER.config
    assert tower.weights.keys() == TOWER.weights.keys()
    assert all(torch.equal(w, TOWER.weights[n]) for n, w in tower.weights.items())


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


def test_a_damaged_configuration_is_told(stored):
    content = stored.read_bytes()
    stored.write_bytes(content.replace(rb"{\"heads\": 2}", rb"{\"heads\": x}"))
    with pytest.raises(UserError, match=f"{stored}: damaged"):
        load_tower(stored)


def test_a_missing_tower_is_named(tmp_path):
    with pytest.raises(UserError, match=r"tower\.safetensors"):
        load_tower(tmp_path / "tower.safetensors")


def test_only_products_of_blocks_take_the_precision(towers):
    for tower in towers:
        half = placed(tower, "cpu", "bfloat16")
        for name, weight in half.weights.items():
            block = name.startswith("transformer.") and ".ln_" not in name
            assert weight.dtype == (torch.bfloat16 if block else torch.float32), name


def test_float32_leaves_a_tower_as_it_is(towers):
    same = placed(towers[0], "cpu", "float32")
    assert all(w is towers[0].weights[name] for name, w in same.weights.items())


def test_a_digest_tells_names_types_shapes_and_numbers():
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


def test_a_flipped_bit_of_a_tower_is_told_or_harmless(stored):
    whole = stored.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 0x40
        stored.write_bytes(content)
        with contextlib.suppress(UserError):
            tower = load_tower(stored)
            assert tower.config == TOWER.config
            for name, weight in tower.weights.items():
                assert torch.equal(weight, TOWER.weights[name])


def test_a_tower_of_other_code_is_told(stored):
    save_tower(stored, TOWER, {"code": "old"})
    load_tower(stored, {"code": "old"})
    with pytest.raises(UserError, match=f"{stored}: is of code old, not new"):
        load_tower(stored, {"code": "new"})


def test_attention_with_a_gradient_is_that_without():
    q, k, v = torch.randn(3, 2, 3, 7, 4)
    weights = {"attn.out_proj.weight": torch.randn(12, 12)}
    weights["attn.out_proj.bias"] = torch.randn(12)
    fused, plain = attend(q, k, v, weights), attend(q.requires_grad_(), k, v, weights)
    assert plain.requires_grad
    assert torch.allclose(fused, plain, rtol=1e-5, atol=1e-6)
