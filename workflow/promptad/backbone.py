"""CLIP from open_clip: found, checked, and taken apart into two plain towers."""

import difflib
import hashlib
import importlib.util
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from promptad.errors import UserError
from promptad.transformer import Tower

RANDOM = "random"
DIGEST_LENGTH = 12
BLOCK_TYPE = "ResidualAttentionBlock"
TEXT_WEIGHTS = (
    "positional_embedding",
    "text_projection",
    "token_embedding.",
    "transformer.",
    "ln_final.",
)


def backbone_name(backbone: Mapping) -> str:
    """Folder name of a backbone: model, and pretrained tag or digest of its file."""
    model, pretrained = backbone["model"], backbone["pretrained"]
    if _is_file(model, ".json"):
        model = f"{Path(model).stem}-{_digest(model)}"
    if pretrained == RANDOM:
        return f"{model}_random{backbone['random_seed']}"
    if Path(pretrained).is_file():
        pretrained = f"sha256-{_digest(pretrained)}"
    return f"{model}_{pretrained}"


def check_backbone(backbone: Mapping) -> None:
    """Raise UserError if the model or its checkpoint file is not to be found."""
    model_config(backbone["model"])
    pretrained = backbone["pretrained"]
    if "/" in pretrained and not Path(pretrained).is_file():
        raise UserError(f"backbone.pretrained: no checkpoint file {pretrained}")


def image_size(backbone: Mapping) -> int:
    """Side in pixels of the square images the backbone takes."""
    return model_config(backbone["model"])["vision_cfg"]["image_size"]


def model_config(model: str) -> dict:
    """The open_clip model configuration by name or from a .json file.

    Read without importing open_clip, which takes seconds.
    """
    path = (
        Path(model) if model.endswith(".json") else _builtin_configs() / f"{model}.json"
    )
    if not path.is_file():
        raise _unknown_model(model)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config["vision_cfg"]["image_size"], config["text_cfg"]["width"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"backbone.model: {path} is no open_clip ViT configuration ({error})"
        ) from error
    return config


def load_backbone(backbone: Mapping) -> tuple[Tower, Tower]:
    """Load a backbone through open_clip; returns its vision and text tower.

    Raises UserError if the weights cannot be had or the architecture is not CLIP's.
    """
    clip = load_clip(backbone)
    return split_towers(clip, backbone["model"])


def load_clip(backbone: Mapping):
    """The open_clip model with the weights of the configuration, in float32."""
    import open_clip
    import torch

    model, pretrained = backbone["model"], backbone["pretrained"]
    config = model_config(model)
    if model.endswith(".json"):
        open_clip.add_model_config(Path(model))
        model = Path(model).stem
    if pretrained == RANDOM:
        logging.warning("backbone: %s runs on RANDOM weights", model)
        torch.manual_seed(backbone["random_seed"])
        return open_clip.create_model(model).eval()
    _check_tag(model, pretrained, open_clip)
    try:
        return open_clip.create_model(model, pretrained=pretrained).eval()
    except Exception as error:  # open_clip raises what its loaders raise
        raise _no_weights(backbone, config, error) from error


def split_towers(clip, name: str) -> tuple[Tower, Tower]:
    """Take an open_clip model apart; UserError if it is not a standard CLIP ViT."""
    text = getattr(clip, "text", clip)
    _require_standard(clip.visual, text, name)
    visual = {n: w.detach().float() for n, w in clip.visual.state_dict().items()}
    state = text.state_dict().items()
    words = {n: w.detach().float() for n, w in state if n.startswith(TEXT_WEIGHTS)}
    return Tower(visual, _vision_config(clip.visual)), Tower(
        words, _text_config(clip, text)
    )


def _vision_config(visual) -> dict:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from open_clip.model import get_model_preprocess_cfg

    preprocess = get_model_preprocess_cfg(visual)
    return _transformer_config(visual.transformer) | {
        "image_size": visual.image_size[0],
        "patch_size": visual.patch_size[0],
        "mean": list(preprocess.get("mean", OPENAI_DATASET_MEAN)),
        "std": list(preprocess.get("std", OPENAI_DATASET_STD)),
    }


def _text_config(clip, text) -> dict:
    return _transformer_config(text.transformer) | {
        "context_length": text.positional_embedding.shape[0],
        "logit_scale": clip.logit_scale.item(),
    }


def _transformer_config(transformer) -> dict:
    block = transformer.resblocks[0]
    quick = type(block.mlp.gelu).__name__ == "QuickGELU"
    return {
        "layers": len(transformer.resblocks),
        "heads": block.attn.num_heads,
        "activation": "quick_gelu" if quick else "gelu",
        "eps": block.ln_1.eps,
    }


def _require_standard(visual, text, name: str) -> None:
    checks = {
        "a ViT with a class token": lambda: visual.pool_type == "tok",
        "no attentional pooling": lambda: visual.attn_pool is None,
        "ln_pre": lambda: hasattr(visual.ln_pre, "weight"),
        "ln_post before pooling": lambda: not visual.final_ln_after_pool,
        "square images and patches": lambda: _is_square(visual),
        "standard vision blocks": lambda: _standard_blocks(visual.transformer),
        "standard text blocks": lambda: _standard_blocks(text.transformer),
        "causal text attention": lambda: text.attn_mask is not None,
        "text read at [EOS]": lambda: _text_pool(text) == "argmax",
        "a plain text projection": lambda: text.text_projection.ndim == 2,
        "the CLIP vocabulary": lambda: text.token_embedding.num_embeddings == 49408,
    }
    for what, holds in checks.items():
        if not _holds(holds):
            raise UserError(
                f"backbone.model: {name} is not a standard CLIP ViT (needs {what}); "
                "take one like ViT-B-16-plus-240, ViT-B-16 or ViT-L-14"
            )


def _holds(check) -> bool:
    try:
        return check()
    except AttributeError:
        return False


def _is_square(visual) -> bool:
    return len(set(visual.image_size)) == 1 and len(set(visual.patch_size)) == 1


def _text_pool(text) -> str:
    return getattr(text, "text_pool_type", None) or text.pool_type


def _standard_blocks(transformer) -> bool:
    return all(_standard_block(block) for block in transformer.resblocks)


def _standard_block(block) -> bool:
    plain_scale = type(block.ls_1).__name__ == "Identity"
    tanh = getattr(block.mlp.gelu, "approximate", "none") != "none"
    return type(block).__name__ == BLOCK_TYPE and plain_scale and not tanh


def _check_tag(model: str, pretrained: str, open_clip) -> None:
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not Path(pretrained).is_file() and pretrained not in tags:
        known = ", ".join(tags) or "none"
        raise UserError(
            f"backbone.pretrained: {pretrained!r} is neither a checkpoint file nor a "
            f"tag of {model} (tags: {known})"
        )


def _no_weights(backbone: Mapping, config: dict, error: Exception) -> UserError:
    model, pretrained = backbone["model"], backbone["pretrained"]
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    if Path(pretrained).is_file():
        return UserError(
            f"backbone.pretrained: {pretrained} holds no weights of {model} ({reason})"
        )
    return UserError(
        f"backbone.pretrained: weights {pretrained!r} of {model} are not on this "
        f"machine and could not be downloaded ({reason}); run once with a network, "
        "or name a local checkpoint file"
    )


def _unknown_model(model: str) -> UserError:
    known = sorted(path.stem for path in _builtin_configs().glob("*.json"))
    close = difflib.get_close_matches(model, known, cutoff=0.4)
    return UserError(
        f"backbone.model: {model!r} is neither an open_clip model nor a .json file; "
        f"close to it: {', '.join(close) or 'none'}"
    )


def _builtin_configs() -> Path:
    return Path(importlib.util.find_spec("open_clip").origin).parent / "model_configs"


def _is_file(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and Path(name).is_file()


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]
