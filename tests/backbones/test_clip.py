import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from fsad.artifacts.content import file_digest
from fsad.backbones.clip import load_backbone, load_clip, split_towers
from fsad.backbones.clip_text import encode_units
from fsad.backbones.clip_vision import embed
from fsad.backbones.readout import VARIANTS
from fsad.errors import UserError
from helpers import TINY, perturbed, relative_error

TEXTS = ["a", "damaged metal nut.", "a very long line about a screw with a flaw"]


def changed(part, **fields):
    """The tiny configuration with other fields in one part."""
    return TINY | {part: TINY[part] | fields}


def built(config, custom_text=False, **options):
    torch.manual_seed(1)
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    return perturbed(kind(**config, **options)).eval()


@pytest.fixture(
    scope="module",
    params=[{}, {"quick_gelu": True}, {"custom_text": True}],
    ids=["gelu", "quick_gelu", "custom_text"],
)
def model(request):
    return built(TINY, **request.param)


@torch.no_grad()
def test_the_vision_tower_is_that_of_open_clip(model):
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    vision, _ = split_towers(model, "tiny")
    ours = embed(vision, pixels, VARIANTS["original"])["global"]
    theirs = model.encode_image(pixels, normalize=True)
    assert relative_error(ours, theirs) < 1e-5


@torch.no_grad()
def test_the_text_tower_is_that_of_open_clip(model):
    _, text = split_towers(model, "tiny")
    tokens = open_clip.SimpleTokenizer()(TEXTS)  # (3, 77), ended by the largest number
    table = text.weights["token_embedding.weight"]
    units = [table[row[1 : row.argmax() + 1]][None] for row in tokens]
    start = table[tokens[0, 0]].expand(1, 1, -1)
    ours = encode_units(text, start, units)[:, 0]
    assert relative_error(ours, model.encode_text(tokens)) < 1e-5


def test_towers_carry_the_configuration_that_weights_do_not_imply(towers):
    vision, text = towers
    assert vision.config == {
        "layers": 4,
        "heads": 2,
        "activation": "gelu",
        "eps": 1e-5,
        "image_size": 32,
        "patch_size": 8,
        "mean": pytest.approx([0.48145466, 0.4578275, 0.40821073]),
        "std": pytest.approx([0.26862954, 0.26130258, 0.27577711]),
    }
    assert text.config == {
        "layers": 2,
        "heads": 2,
        "activation": "gelu",
        "eps": 1e-5,
        "context_length": 77,
        "logit_scale": pytest.approx(2.6592600),
    }


@pytest.mark.parametrize(
    "config",
    [
        changed("vision_cfg", layers=[1, 1, 1, 1], width=8, head_width=16),
        changed("vision_cfg", timm_model_name="vit_tiny_patch16_224", image_size=224),
        changed("vision_cfg", no_ln_pre=True),
        changed("vision_cfg", ls_init_value=0.1),
        changed("vision_cfg", pool_type="avg"),
        changed("vision_cfg", attentional_pool=True, attn_pooler_heads=2),
        changed("vision_cfg", final_ln_after_pool=True),
        changed("vision_cfg", qk_norm=True, block_type="custom"),
        changed("vision_cfg", act_kwargs={"approximate": "tanh"}),
        changed("vision_cfg", image_size=[32, 40]),
        changed("vision_cfg", patch_size=[8, 16]),
        changed("text_cfg", ls_init_value=0.1),
        changed("text_cfg", no_causal_mask=True),
        changed("text_cfg", pool_type="last"),
        changed("text_cfg", proj_bias=True),
        changed("text_cfg", proj_type="none", width=24),
        changed("text_cfg", embed_cls=True),
        changed("text_cfg", act_kwargs={"approximate": "tanh"}),
        changed("text_cfg", vocab_size=1000),
    ],
    ids=lambda config: "-".join(
        f"{part}-{name}"
        for part in ("vision_cfg", "text_cfg")
        for name, value in config[part].items()
        if TINY[part].get(name) != value
    ),
)
def test_another_architecture_is_refused(config):
    custom = {"embed_cls", "proj_bias", "proj_type"} & config["text_cfg"].keys()
    with pytest.raises(UserError, match="tiny is not a standard CLIP ViT"):
        split_towers(built(config, bool(custom)), "tiny")


@pytest.fixture
def model_file(tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    return tmp_path / "tiny.json"


def local(model_file, pretrained, seed=0):
    return {
        "library": "open_clip",
        "model": str(model_file),
        "pretrained": str(pretrained),
        "random_seed": seed,
    }


def assert_equal(towers, expected):
    for tower, other in zip(towers, expected, strict=True):
        assert tower.config == other.config
        assert tower.weights.keys() == other.weights.keys()
        assert all(torch.equal(w, other.weights[n]) for n, w in tower.weights.items())


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "bin"])
def test_a_local_checkpoint_is_loaded(tmp_path, model_file, clip, towers, suffix):
    path = tmp_path / f"weights.{suffix}"
    write = save_file if suffix == "safetensors" else torch.save
    write(clip.state_dict(), path)
    assert_equal(load_backbone(local(model_file, path)), towers)


def test_a_training_checkpoint_is_loaded(tmp_path, model_file, clip, towers):
    state = {f"module.{name}": weight for name, weight in clip.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "weights.pt")
    loaded = load_backbone(local(model_file, tmp_path / "weights.pt"))
    assert_equal(loaded, towers)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_corrupt_checkpoint_is_named(tmp_path, model_file, suffix, content):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path} holds no weights"):
        load_backbone(local(model_file, path))


def test_a_truncated_checkpoint_is_named(tmp_path, model_file, clip):
    path = tmp_path / "weights.safetensors"
    save_file(clip.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{path} holds no weights"):
        load_backbone(local(model_file, path))


def test_the_checkpoint_of_another_model_is_named(tmp_path, model_file):
    path = tmp_path / "weights.pt"
    torch.save(built(changed("vision_cfg", width=48)).state_dict(), path)
    with pytest.raises(UserError, match=f"{path} holds no weights"):
        load_backbone(local(model_file, path))


def test_random_weights_follow_their_seed(model_file):
    first = load_backbone(local(model_file, "random", seed=3))
    assert_equal(load_backbone(local(model_file, "random", seed=3)), first)
    other = load_backbone(local(model_file, "random", seed=4))
    assert not torch.equal(first[0].weights["proj"], other[0].weights["proj"])


def test_random_weights_are_warned_about(model_file, caplog):
    load_clip(local(model_file, "random"))
    assert "RANDOM" in caplog.text


def test_an_unknown_model_is_named():
    with pytest.raises(UserError, match="'ViT-B-17' is neither"):
        load_backbone(local("ViT-B-17", "openai"))


@pytest.mark.parametrize("pretrained", ["laion400m_e33", "weights.pt"])
def test_an_unknown_tag_is_named_with_the_known_ones(pretrained):
    with pytest.raises(UserError, match=f"'{pretrained}' is neither.*laion400m_e32"):
        load_backbone(local("ViT-B-16", pretrained))


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(UserError, match=r"'laion400m_e32' of ViT-B-16 .*no network"):
        load_backbone(local("ViT-B-16", "laion400m_e32"))


def test_a_tag_trained_with_another_activation_is_refused(monkeypatch, clip):
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: clip)
    with pytest.raises(UserError, match="quickgelu"):
        load_backbone(local("ViT-B-16", "openai"))


@pytest.fixture
def hub(tmp_path, monkeypatch, clip):
    """The hub's cache with weights of a tag, named by their digest; the file."""
    save_file(clip.state_dict(), tmp_path / "new")
    blob = tmp_path / file_digest(tmp_path / "new")
    (tmp_path / "new").rename(blob)
    (tmp_path / "open_clip_model.safetensors").symlink_to(blob)
    link = str(tmp_path / "open_clip_model.safetensors")
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: link)
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: clip)
    return blob


def test_weights_of_the_digest_in_the_cache_are_taken(hub, clip):
    assert load_clip(local("ViT-B-16", "laion400m_e32")) is clip


def test_damaged_weights_in_the_cache_are_refused(hub):
    hub.write_bytes(hub.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=f"{hub}.*not have the SHA-256 in its name"):
        load_clip(local("ViT-B-16", "laion400m_e32"))
