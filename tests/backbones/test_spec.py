import hashlib
import json
import re

import pytest

from fsad.backbones.readout import VARIANTS, Readout, variant_readout
from fsad.backbones.spec import (
    backbone_name,
    check_backbone,
    check_unchanged,
    complete_backbone,
    feature_bytes,
    image_size,
    is_random,
    named_backbone,
    pixel_statistics,
    weights_file,
)
from fsad.data.augment import Augment
from fsad.data.views import View
from fsad.errors import UserError
from helpers import TINY


def backbone(model="ViT-B-16-plus-240", pretrained="laion400m_e32"):
    known = {"model": str(model), "pretrained": str(pretrained)}
    return {"library": "open_clip", **known, "random_seed": 5}


@pytest.fixture
def files(tmp_path):
    """A model configuration and a checkpoint."""
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    (tmp_path / "weights.pt").write_bytes(b"weights")
    return tmp_path / "tiny.json", tmp_path / "weights.pt"


def test_the_name_carries_the_tag():
    assert backbone_name(backbone()) == "ViT-B-16-plus-240_laion400m_e32"


def test_the_name_carries_the_seed_of_random_weights():
    assert backbone_name(backbone("ViT-B-16", "random")) == "ViT-B-16_random5"


@pytest.mark.parametrize("changed", [0, 1], ids=["model", "checkpoint"])
def test_the_name_carries_the_digest_of_files(files, changed):
    before = backbone_name(backbone(*files))
    assert before == backbone_name(backbone(*files))
    files[changed].write_bytes(files[changed].read_bytes() + b" ")
    assert backbone_name(backbone(*files)) != before


def test_the_name_carries_no_path(files):
    name = backbone_name(backbone(*files))
    assert name.startswith("tiny-")
    assert "_sha256-" in name
    assert "/" not in name


def test_the_same_content_elsewhere_has_the_same_name(files, tmp_path):
    moved = tmp_path / "moved.bin"
    moved.write_bytes(files[1].read_bytes())
    expected = backbone_name(backbone(files[0], moved))
    assert backbone_name(backbone(*files)) == expected


@pytest.mark.parametrize(
    ("model", "size"), [("ViT-B-16-plus-240", 240), ("ViT-B-16", 224)]
)
def test_the_image_size_of_a_known_model(model, size):
    assert image_size(backbone(model)) == size


def test_the_image_size_of_a_local_model(files):
    assert image_size(backbone(files[0])) == 32


def test_the_bytes_of_the_features_of_an_image(files):
    # One global feature of 24; 4 x 4 patches of one of 24 and two of 32 numbers.
    readout = variant_readout(VARIANTS["original"], View("square", 32))
    assert feature_bytes(backbone(files[0]), readout) == 4 * (24 + 16 * (24 + 2 * 32))


def test_the_bytes_of_windows(files):
    # 4 x 4 patches of 32 numbers; of 24 one global feature, 9 and 4 windows.
    fields = {"scales": [2, 3], "norm": True}
    readout = Readout("r", "windows", View("square", 32), Augment(), fields)
    assert feature_bytes(backbone(files[0]), readout) == 2 * (16 * 32 + 14 * 24)


def timm(model="vit_small_patch14_dinov2.lvd142m", **options):
    return {"library": "timm", "model": model, "image_size": 56, **options}


@pytest.mark.parametrize(
    ("model", "kind", "size", "count"),
    [
        ("vit_small_patch14_dinov2.lvd142m", "tokens", 56, 16 * 384),
        ("vit_base_patch16_224", "neighbourhoods", 56, 9 * 1024),
        ("resnet18.a1_in1k", "neighbourhoods", 64, 64 * 1024),
        ("resnet18.a1_in1k", "tokens", 64, None),
    ],
)
def test_the_bytes_of_patches_follow_from_the_name(model, kind, size, count):
    """In float16; None where the name does not tell the width."""
    readout = Readout(
        "r", kind, View("square", size), Augment(), {"patch_width": "auto"}
    )
    expected = count and 2 * count
    assert feature_bytes(timm(model), readout) == expected


def test_models_of_timm_need_their_name_and_size():
    for option in ("model", "image_size"):
        given = {n: x for n, x in timm().items() if n != option}
        with pytest.raises(UserError, match=f"^{option}: must be given for timm$"):
            complete_backbone(given)
    assert complete_backbone(timm()) == timm()
    assert complete_backbone({"library": "open_clip"})["pretrained"] == "laion400m_e32"


def test_weights_of_timm_are_named_by_a_tag_or_a_file(files):
    with pytest.raises(
        UserError, match=r"^model: 'resnet18' is not MODEL\.TAG of timm"
    ):
        check_backbone(timm("resnet18"))
    with pytest.raises(
        UserError, match=r"^pretrained: 'a1_in1k' is no file of weights"
    ):
        check_backbone(timm("resnet18", pretrained="a1_in1k"))
    check_backbone(timm("resnet18", pretrained=str(files[1])))
    check_backbone(timm("resnet18", pretrained="random"))
    check_backbone(timm("resnet18.a1_in1k"))


def test_the_name_of_a_model_of_timm_carries_tag_or_weights_and_size(files):
    assert backbone_name(timm()) == "vit_small_patch14_dinov2.lvd142m_px56"
    local = backbone_name(timm("resnet18", pretrained=str(files[1])))
    assert re.fullmatch("resnet18_sha256-[0-9a-f]{12}_px56", local)
    random = backbone_name(timm("resnet18", pretrained="random", random_seed=3))
    assert random == "resnet18_random3_px56"
    assert is_random(random) and not is_random(local)


def test_the_error_of_a_backbone_begins_with_its_name():
    with (
        pytest.raises(UserError, match=r"^backbones\.cnn: model: 'resnet18' is not"),
        named_backbone("cnn"),
    ):
        check_backbone(timm("resnet18"))


@pytest.mark.parametrize("model", ["ViT-B-16", "tiny"])
def test_random_weights_are_known_by_the_name(model):
    assert is_random(f"{model}_random5")
    assert not is_random(f"{model}_randomised")
    assert not is_random(f"{model}_laion400m_e32")


def test_an_unknown_model_is_named_with_close_ones():
    with pytest.raises(UserError, match=r"'ViT-B-16-plus-241'.*ViT-B-16-plus-240"):
        check_backbone(backbone("ViT-B-16-plus-241"))


def test_a_missing_model_file_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / "tiny.json")):
        check_backbone(backbone(tmp_path / "tiny.json"))


@pytest.mark.parametrize("content", ["no json", "[]", "{}", '{"vision_cfg": {}}'])
def test_a_model_file_without_a_vit_is_named(tmp_path, content):
    (tmp_path / "tiny.json").write_text(content)
    with pytest.raises(UserError, match=r"tiny\.json is not an open_clip ViT"):
        check_backbone(backbone(tmp_path / "tiny.json"))


@pytest.fixture
def digest_file(files):
    """The output of sha256sum for the checkpoint."""
    digest = hashlib.sha256(b"weights").hexdigest()
    path = files[1].with_name("weights.pt.sha256")
    path.write_text(f"{digest}  weights.pt\n")
    return path


def test_a_checkpoint_of_the_digest_beside_it_passes(files, digest_file):
    check_backbone(backbone(*files))


@pytest.mark.parametrize("content", ["", "0" * 64 + "  weights.pt\n"])
def test_a_checkpoint_of_another_digest_is_refused(files, digest_file, content):
    digest_file.write_text(content)
    with pytest.raises(UserError, match=r"weights\.pt is not the file whose SHA-256"):
        check_backbone(backbone(*files))


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=f"no checkpoint file {tmp_path}/weights.pt"):
        check_backbone(backbone(pretrained=tmp_path / "weights.pt"))


def test_files_that_changed_since_they_were_named_are_refused(files):
    name = backbone_name(backbone(*files))
    check_unchanged(backbone(*files), name)
    files[1].write_bytes(b"other weights")
    with pytest.raises(UserError, match=f"{name} was planned; start it again"):
        check_unchanged(backbone(*files), name)


def test_mean_and_std_belong_to_the_name(files):
    plain = backbone(*files)
    names = {backbone_name(plain)}
    names |= {backbone_name(plain | {n: [0.5] * 3}) for n in ("mean", "std")}
    assert len(names) == 3
    random = plain | {"pretrained": "random", "mean": [0.5] * 3}
    assert is_random(backbone_name(random))


@pytest.fixture
def hub(tmp_path):
    """A folder of the hub with a model that is not that of the configuration."""
    folder = tmp_path / "a hub"
    folder.mkdir()
    pixels = {"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1], "size": 32}
    config = {"model_cfg": TINY, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"weights")
    return folder


def test_model_and_pixels_of_a_hub_folder_are_its_own(hub):
    check_backbone(backbone(pretrained=hub))
    assert image_size(backbone(pretrained=hub)) == 32
    assert weights_file(backbone(pretrained=hub)).endswith("pytorch_model.bin")
    expected = {"mean": [0.5] * 3, "std": [1.0] * 3}
    assert pixel_statistics(backbone(pretrained=hub)) == expected
    given = {"std": [0.1, 0.2, 0.3]}
    found = pixel_statistics(backbone(pretrained=hub) | given)
    assert found == expected | given


@pytest.mark.parametrize(
    "name", ["open_clip_config.json", "open_clip_pytorch_model.bin"]
)
def test_the_name_carries_the_digests_of_a_hub_folder(hub, name):
    before = backbone_name(backbone(pretrained=hub))
    assert "/" not in before and " " not in before
    (hub / name).write_bytes((hub / name).read_bytes() + b" ")
    assert backbone_name(backbone(pretrained=hub)) != before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("open_clip_pytorch_model.bin", None, "a hub holds no weights"),
        ("open_clip_config.json", None, "no checkpoint file .*a hub, nor a folder wi"),
        ("open_clip_config.json", "{}", "open_clip_config.json is not an open_clip"),
        (
            "open_clip_config.json",
            json.dumps({"model_cfg": TINY, "preprocess_cfg": {"mean": [1]}}),
            "open_clip_config.json is not .*three colours",
        ),
    ],
)
def test_a_defective_hub_folder_is_named(hub, name, text, message):
    (hub / name).unlink()
    if text is not None:
        (hub / name).write_text(text)
    with pytest.raises(UserError, match=message):
        check_backbone(backbone(pretrained=hub))


def test_a_folder_named_like_a_tag_is_not_taken_for_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "laion400m_e32").mkdir()
    check_backbone(backbone())
    assert weights_file(backbone()) is None
