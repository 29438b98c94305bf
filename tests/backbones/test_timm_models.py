"""Networks of timm without a network: weights of files and random ones."""

import pytest
import timm
import torch

from fsad.backbones import networks
from fsad.backbones.catalogue import list_backbones
from fsad.backbones.networks import open_network
from fsad.backbones.timm_models import load_timm
from fsad.backbones.tower import load_tower, save_tower, weights_digest
from fsad.errors import UserError
from helpers import perturbed

MODEL = "test_vit"  # tiny models of timm
RANDOM = {"library": "timm", "pretrained": "random", "random_seed": 3}


def saved(path, **changed):
    """Write weights of MODEL, classifier included; a change of None leaves one out."""
    torch.manual_seed(1)
    weights = perturbed(timm.create_model(MODEL)).state_dict() | changed
    torch.save({n: w for n, w in weights.items() if w is not None}, path)
    return weights


def load(path):
    return load_timm({"library": "timm", "model": MODEL, "pretrained": str(path)})


def test_a_model_without_weights_is_refused_with_its_tags():
    with pytest.raises(UserError, match=r"names no weights; .*wide_resnet50_2.tv_in1k"):
        load_timm({"model": "wide_resnet50_2"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnet50.imagenet"}, r"no tag 'imagenet'; take .*resnet50.tv_in1k"),
        ({"model": "vit_smal_patch14_dinov2"}, "close to it: vit_small_patch14_dinov2"),
        (
            {"model": "vit_small_patch14_dinov2", **RANDOM, "pretrained": None},
            "lvd142m",
        ),
        ({"model": "resnet50.tv_in1k", **RANDOM}, "names weights, and so does"),
        (
            {"model": "swin_tiny_patch4_window7_224", **RANDOM},
            "neither a plain ViT nor",
        ),
        ({"model": "hf-hub:timm/resnet50", **RANDOM}, "timm has no model 'hf-hub:timm"),
    ],
)
def test_models_that_cannot_be_loaded_are_named(options, message):
    with pytest.raises(UserError, match=message):
        load_timm(options)


def test_random_weights_follow_their_seed():
    seeds = [RANDOM | {"model": MODEL, "random_seed": seed} for seed in (3, 3, 4)]
    first, same, other = (weights_digest(load_timm(seed).weights) for seed in seeds)
    assert first == same != other


def test_a_tower_describes_its_network():
    vit = load_timm(RANDOM | {"model": MODEL})
    assert {**vit.config, "arguments": None} == {
        "library": "timm",
        "model": MODEL,
        "arguments": None,
        "family": "vit",
        "image_size": 160,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "layers": 6,
        "width": 64,
        "patch_size": 16,
        "positions": "timm",
    }
    cnn = load_timm(RANDOM | {"model": "test_resnet"})
    assert cnn.config["stages"]["layer2"] == [48, 8]
    assert not any(name.startswith("fc.") for name in cnn.weights)


def test_options_replace_size_and_statistics_of_pixels():
    options = {"image_size": 96, "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}
    config = load_timm(RANDOM | {"model": MODEL} | options).config
    assert {name: config[name] for name in options} == options


def test_a_tower_of_timm_is_stored(tmp_path):
    tower = load_timm(RANDOM | {"model": "test_resnet"})
    save_tower(tmp_path / "a", tower, {})
    stored = load_tower(tmp_path / "a")
    assert stored.config == tower.config
    assert weights_digest(stored.weights) == weights_digest(tower.weights)
    assert stored.device.type == "cpu"


def test_weights_of_a_file_are_those_of_the_network(tmp_path):
    weights = saved(tmp_path / "a.pth")
    tower = load(tmp_path / "a.pth")
    assert {*weights} - {*tower.weights} == {"head.weight", "head.bias"}
    assert all(torch.equal(w, weights[n]) for n, w in tower.weights.items())


def test_a_checkpoint_of_dinov2_is_converted(tmp_path):
    weights = saved(tmp_path / "a.pth", mask_token=torch.zeros(1, 64))
    assert weights_digest(load(tmp_path / "a.pth").weights) == weights_digest(
        {n: w for n, w in weights.items() if not n.startswith(("head", "mask"))}
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm.bias": None}, r"Missing key.*norm\.bias"),
        ({"other.bias": torch.ones(2)}, r"Unexpected key.*other\.bias"),
        ({"norm.bias": torch.ones(3)}, r"size mismatch for norm\.bias"),
        ({"norm.bias": torch.full((64,), torch.nan)}, r"norm\.bias contains values"),
    ],
)
def test_files_of_other_weights_are_refused(tmp_path, changed, message):
    saved(tmp_path / "a.pth", **changed)
    with pytest.raises(UserError, match=rf"a\.pth holds no weights of .*{message}"):
        load(tmp_path / "a.pth")


def test_files_without_weights_are_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match=r"a\.pth holds no weights.*git lfs pull"):
        load(tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"b\.pth: no such file"):
        load(tmp_path / "b.pth")


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch):
    def refuse(*_, **__):
        raise OSError("401 Client Error.\nAccess to this model is restricted")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(UserError) as caught:
        load_timm({"model": "vit_small_patch16_dinov3.lvd1689m"})
    message = str(caught.value)
    assert "401 Client Error. Access to this model is restricted" in message
    assert "accept the licence (dinov3-license) of timm/vit_small_patch16" in message
    assert "HF_TOKEN" in message
    assert "model: vit_small_patch16_dinov3" in message
    assert "\n" not in message


def test_a_tag_names_the_weights_to_download(monkeypatch):
    asked, create = [], timm.create_model

    def offline(model, pretrained=False, **arguments):
        asked.append((model, pretrained))
        return create(model, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    tower = load_timm({"model": f"{MODEL}.r160_in1k"})
    assert asked == [(f"{MODEL}.r160_in1k", True)]
    open_network(tower)
    assert asked[1:] == [(f"{MODEL}.r160_in1k", False)]


@pytest.mark.parametrize("model", ["test_vit", "test_resnet", "test_convnext"])
def test_loaded_networks_give_stages(model):
    network = open_network(load_timm(RANDOM | {"model": model}))
    layers = networks.auto_layers(network)
    first, second = networks.stages(network, torch.zeros(1, 3, 64, 96), layers)
    assert first.shape[0] == second.shape[0] == 1
    assert first.isfinite().all()


def test_the_list_of_backbones_holds_what_can_be_loaded():
    rows = {(row.model, row.tag): row for row in list_backbones("dinov2.")}
    assert rows["vit_small_patch14_dinov2", "lvd142m"].image_size == 518
    assert rows["vit_small_patch14_dinov2", "lvd142m"].licence == "apache-2.0"
    (row,) = list_backbones("vit-b-16-plus-240.*_e32")
    assert row[:4] == ("open_clip", "ViT-B-16-plus-240", "laion400m_e32", 240)
    models = {row.model for row in list_backbones()}
    assert {"wide_resnet50_2", "vit_base_patch16_dinov3", "ViT-L-14"} <= models
    assert not {"swin_tiny_patch4_window7_224", "RN50"} & models
