"""Checkpoints as people have them: loaded, or refused with their kind and a remedy."""

import argparse
import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from fsad.backbones.checkpoints import read_weights, set_weights
from fsad.backbones.clip import load_backbone, load_clip
from fsad.errors import UserError
from helpers import TINY

LIBRARY = {"library": "open_clip"}
STATE = {"proj": torch.ones(2, 3), "logit_scale": torch.tensor(4.6)}


def same(found):
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], weight) for name, weight in STATE.items())


def prefixed(start):
    return {f"{start}{name}": weight for name, weight in STATE.items()}


LOADED = {
    "plain": STATE,
    "training": {"epoch": 3, "state_dict": STATE, "optimizer": {"lr": 0.1}},
    "model_state_dict": {"model_state_dict": STATE},
    "half precision": {
        name: weight.bfloat16().float() for name, weight in STATE.items()
    },
    "distributed": {"state_dict": prefixed("module.")},
    "compiled": prefixed("_orig_mod."),
    "compiled and distributed": prefixed("module._orig_mod."),
    "sharded": prefixed("_fsdp_wrapped_module."),
    "Lightning": {"state_dict": prefixed("model.")},
    "of OpenAI": STATE | {"input_resolution": torch.tensor(224)},
    "wrapped twice": prefixed("model.module."),
    "distributed twice": {"model": {"state_dict": prefixed("module.module.")}},
    "DeepSpeed": {"module": STATE, "global_steps": 9},
    "with a buffer": prefixed("module.") | {"module.attn_mask": torch.ones(2, 2)},
}


@pytest.mark.parametrize("kind", LOADED)
def test_usual_forms_of_checkpoints_are_read(tmp_path, kind):
    torch.save(LOADED[kind], tmp_path / "a.pt")
    found = read_weights(tmp_path / "a.pt")
    assert found.keys() == STATE.keys()
    assert all(weight.dtype == torch.float32 for weight in found.values())


def test_the_content_counts_and_not_the_suffix(tmp_path):
    save_file(STATE, tmp_path / "a.bin")
    same(read_weights(tmp_path / "a.bin"))
    torch.save(STATE, tmp_path / "a.safetensors")
    same(read_weights(tmp_path / "a.safetensors"))


def script(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), str(path))


def pickled(content):
    return lambda path: torch.save(content, path)


def raw(content):
    return lambda path: path.write_bytes(content)


def archive(path):
    with open(path, "wb") as file:
        np.savez(file, x=np.zeros(3))


REFUSED = {
    "TorchScript": (script, "a TorchScript archive.*tag `openai`"),
    "NumPy scalar": (
        pickled({"state_dict": STATE, "best": np.float64(1)}),
        "a pickle with objects of numpy.*save the weights alone",
    ),
    "arguments": (
        pickled({"state_dict": STATE, "args": argparse.Namespace(lr=1)}),
        "a pickle with objects of argparse.Namespace.*save the weights alone",
    ),
    "whole model": (pickled(torch.nn.Linear(2, 3)), "objects of torch.nn.*Linear"),
    "no tensors": (pickled({"epoch": 3}), "no tensors by name"),
    "a list": (pickled([torch.ones(2)]), "no tensors by name"),
    "numbers for names": (pickled({1: torch.ones(2)}), "no tensors by name"),
    "bytes for names": (pickled({b"proj": torch.ones(2)}), "no tensors by name"),
    "quantised": (
        pickled(STATE | {"proj": torch.ones(2, 3, dtype=torch.int8)}),
        "its proj is torch.int8 .* quantised",
    ),
    "sparse": (
        pickled(STATE | {"proj": torch.ones(2, 3).to_sparse()}),
        "its proj is torch.float32 in torch.sparse_coo",
    ),
    "cut": (raw(save(STATE)[:-3]), "not a whole one; download or save it again"),
    "pointer": (raw(b"version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "web page": (raw(b"<!DOCTYPE html><html></html>"), "a page of the web"),
    "NumPy archive": (archive, "an archive of another program"),
    "empty": (raw(b""), "no file of torch or safetensors, or not a whole one"),
    "text": (raw(b"no weights at all"), "no file of torch or safetensors"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("kind", REFUSED)
def test_other_files_are_refused_by_their_kind(tmp_path, kind):
    write, message = REFUSED[kind]
    write(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message) as error:
        read_weights(tmp_path / "a.pt")
    assert len(str(error.value).splitlines()) == 1


@pytest.fixture
def network():
    network = torch.nn.Module()
    network.register_buffer("proj", torch.zeros(2, 3))
    network.logit_scale = torch.nn.Parameter(torch.zeros(()))
    network.positional_embedding = torch.nn.Parameter(torch.zeros(4, 2))
    return network


FULL = STATE | {"positional_embedding": torch.ones(4, 2)}


def test_weights_that_do_not_fit_are_named(network):
    other = {f"vision.{name}": weight for name, weight in FULL.items()}
    names = "missing: .*proj.*; unknown: vision.proj, vision.logit_scale, vision.pos"
    with pytest.raises(ValueError, match=names):
        set_weights(network, other)
    many = FULL | {f"x{index}": torch.ones(1) for index in range(9)}
    with pytest.raises(
        ValueError, match="missing: none; unknown: x0, x1, x2 and 6 more"
    ):
        set_weights(network, many)
    network.visual = torch.nn.Module()
    with pytest.raises(ValueError, match=r"its proj is \[3, 2\] instead of \[2, 3\]"):
        set_weights(network, FULL | {"proj": torch.ones(3, 2)})


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("logit_scale", torch.ones(2)),
        ("visual.positional_embedding", torch.ones(1 + 13, 32)),
    ],
)
def test_weights_that_cannot_be_resized_are_named(clip, name, weight):
    with pytest.raises(ValueError, match=r"is no number, or .* of patches.*; set `mod"):
        set_weights(clip, clip.state_dict() | {name: weight})


@pytest.fixture
def hub(tmp_path, clip):
    """A folder of the hub, whose pixels are normalised in its own way."""
    pixels = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    config = {"model_cfg": TINY, "preprocess_cfg": pixels}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    save_file(clip.state_dict(), tmp_path / "open_clip_model.safetensors")
    return {**LIBRARY, "model": "ViT-B-16", "pretrained": str(tmp_path)}


def test_a_hub_folder_is_loaded_with_its_model_and_pixels(hub, towers, caplog):
    caplog.set_level(logging.INFO)
    vision, text = load_backbone(hub)
    pixels = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    assert vision.config == towers[0].config | pixels
    assert text.config == towers[1].config
    for name, weight in towers[0].weights.items():
        assert torch.equal(vision.weights[name], weight)
    assert "is assumed" not in caplog.text


def test_of_a_file_the_log_names_the_assumed_pixels(hub, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    path = f"{tmp_path}/open_clip_model.safetensors"
    backbone = {**LIBRARY, "model": f"{tmp_path}/tiny.json", "pretrained": path}
    load_clip(backbone)
    assert "mean: [0.48145466, 0.4578275, 0.40821073] of" in caplog.text
    assert "std: [0.26862954, 0.2613" in caplog.text
    caplog.clear()
    given = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    vision, _ = load_backbone(backbone | given)
    assert given.items() <= vision.config.items()
    assert "is assumed" not in caplog.text


def test_a_checkpoint_without_permission_is_named(hub, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fsad.backbones.clip.read_weights", refuse)
    message = r"open_clip_model\.safetensors: cannot be read \(Permission denied\)"
    with pytest.raises(UserError, match=message):
        load_clip(hub)
