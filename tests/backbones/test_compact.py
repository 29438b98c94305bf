import json

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from fsad.backbones.clip import load_clip
from fsad.backbones.compact import (
    NUMBERS,
    ROWS,
    TABLE,
    expand,
    is_compact,
    save_compact,
    write_checkpoint,
)
from fsad.errors import UserError
from helpers import TINY, perturbed, relative_error

KNOWN = torch.tensor([269, 4044, 49406, 49407])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return perturbed(open_clip.CLIP(**TINY)).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory, model):
    """A model configuration and a compact file of it."""
    folder = tmp_path_factory.mktemp("compact")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    weights = model.state_dict()
    path = folder / "tiny.safetensors"
    save_compact(path, weights | {TABLE: weights[TABLE][KNOWN]}, KNOWN)
    return folder / "tiny.json", path


def local(model, pretrained):
    known = {"model": str(model), "pretrained": str(pretrained)}
    return {"library": "open_clip", **known}


def test_expanded_weights_are_those_that_were_saved(model, files):
    expanded, saved = expand(files[1]), model.state_dict()
    assert expanded.keys() == saved.keys()
    for name, weight in expanded.items():
        known = KNOWN if name == TABLE else slice(None)
        assert weight.dtype == torch.float32
        if weight.ndim > 1:
            assert relative_error(weight[known], saved[name][known]) < 1e-3  # float16
        else:
            assert torch.equal(weight, saved[name])


def test_words_that_were_not_trained_are_the_mean_of_the_others(files):
    table = expand(files[1])[TABLE]
    mean = table[KNOWN].mean(0)
    assert torch.allclose(table[[0, 4043, 49405]], mean.expand(3, -1), atol=1e-6)


def test_a_compact_file_is_small(files):
    # 49,408 rows of 16 numbers alone are 1.6 MB in float16.
    assert files[1].stat().st_size < 300_000


@torch.no_grad()
@pytest.mark.parametrize("size", [32, 48])  # trained at 32
def test_the_pipeline_and_open_clip_load_the_same(files, tmp_path, size):
    config, compact = tmp_path / f"tiny{size}.json", files[1]
    vision = TINY["vision_cfg"] | {"image_size": size}
    config.write_text(json.dumps(TINY | {"vision_cfg": vision}))
    checkpoint = tmp_path / "whole.safetensors"
    write_checkpoint(compact, checkpoint)
    open_clip.add_model_config(config)
    theirs = open_clip.create_model(
        config.stem, pretrained=str(checkpoint), weights_only=True
    ).eval()
    ours = load_clip(local(config, compact))
    pixels, tokens = torch.randn(2, 3, size, size), open_clip.tokenize(["a metal nut"])
    assert torch.equal(ours.encode_image(pixels), theirs.encode_image(pixels))
    assert torch.equal(ours.encode_text(tokens), theirs.encode_text(tokens))


def test_an_ordinary_checkpoint_is_not_compact(files, tmp_path):
    write_checkpoint(files[1], tmp_path / "whole.safetensors")
    assert is_compact(files[1])
    assert not is_compact(tmp_path / "whole.safetensors")
    assert not is_compact("laion400m_e32")


def test_an_ordinary_checkpoint_cannot_be_expanded(files, tmp_path):
    path = tmp_path / "whole.safetensors"
    write_checkpoint(files[1], path)
    with pytest.raises(UserError, match=f"{path}: not a compact weight file"):
        write_checkpoint(path, tmp_path / "other.safetensors")


def test_a_damaged_file_is_named(files, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(files[1].read_bytes()[:-50])
    with pytest.raises(UserError, match=f"{path} holds no weights"):
        load_clip(local(files[0], path))


def test_a_file_without_its_numbers_is_named(files, tmp_path):
    path = tmp_path / "part.safetensors"
    save_file({ROWS: load_file(files[1])[ROWS]}, path)
    with pytest.raises(UserError, match=f"{path}: is not a compact .*{NUMBERS}"):
        expand(path)


def test_weights_of_another_model_are_refused(files, tmp_path):
    other = TINY | {"embed_dim": 8}
    (tmp_path / "other.json").write_text(json.dumps(other))
    backbone = local(tmp_path / "other.json", files[1])
    with pytest.raises(UserError, match=r"holds no weights of .*other\.json"):
        load_clip(backbone)
