"""CLIP models of open_clip: loaded, checked, and split into two towers."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from fsad.artifacts.content import file_digest
from fsad.artifacts.files import unreadable
from fsad.backbones.checkpoints import read_weights, set_weights
from fsad.backbones.spec import (
    ASSUMED,
    HUB_CONFIG,
    PIXELS,
    RANDOM,
    assumptions,
    check_backbone,
    model_source,
    pixel_statistics,
    weights_file,
)
from fsad.backbones.tower import Tower
from fsad.errors import UserError

HUB_DIGEST = re.compile("[0-9a-f]{64}")
TEXT_WEIGHTS = ("positional_embedding", "text_projection", "token_embedding.")
TEXT_WEIGHTS += ("transformer.", "ln_final.")


def load_backbone(backbone: Mapping) -> tuple[Tower, Tower]:
    """Load a backbone through open_clip; returns its vision and text tower.

    Raises UserError if the weights cannot be loaded or the model is not a CLIP ViT.
    """
    return split_towers(load_clip(backbone), model_source(backbone))


def load_clip(backbone: Mapping, image_size: int | None = None):
    """Load the open_clip model of a configuration, in float32.

    image_size: in pixels, instead of that of the model; for random weights only.
    """
    import open_clip
    import torch

    check_backbone(backbone)
    model = _registered(model_source(backbone))
    if backbone["pretrained"] == RANDOM:
        logging.warning("backbone: %s runs on RANDOM weights", model)
        torch.manual_seed(backbone["random_seed"])
        with _no_warnings():  # of random weights, again
            clip = open_clip.create_model(model, force_image_size=image_size)
    else:
        clip = _trained(model, backbone)
    _set_pixels(clip.visual, backbone)
    return clip.eval()


def _registered(source: str) -> str:
    """Name of a model for open_clip, which reads the configuration in a file."""
    import open_clip

    path = Path(source)
    if path.name == HUB_CONFIG:
        return f"local-dir:{path.parent}"
    if path.suffix != ".json":
        return source
    open_clip.add_model_config(path)
    return path.stem


def _trained(model: str, backbone: Mapping):
    import open_clip

    tag, path = backbone["pretrained"], weights_file(backbone)
    try:
        if path is None:
            _check_tag(model, tag)
            _check_download(model, tag)
            clip = open_clip.create_model(model, pretrained=tag, weights_only=True)
        else:
            with _no_warnings():  # of a model without weights
                clip = open_clip.create_model(model, load_weights=False)
            set_weights(clip, read_weights(path))
        for name, weight in clip.named_parameters():
            if not weight.isfinite().all():
                raise ValueError(f"{name} contains values that are not finite")
        return clip
    except UserError:
        raise
    except Exception as error:  # open_clip passes on whatever its loaders raise
        raise _no_weights(backbone, path, error) from error


def _set_pixels(visual, backbone: Mapping) -> None:
    """Set mean and std of pixels, and log what is assumed for a checkpoint."""
    given = pixel_statistics(backbone)
    if given:
        visual.preprocess_cfg = {**getattr(visual, "preprocess_cfg", {}), **given}
    for note in assumptions(backbone):
        logging.info(note)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Suppress the warnings that open_clip logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def split_towers(clip, name: str) -> tuple[Tower, Tower]:
    """Split an open_clip model; UserError if it is not a standard CLIP ViT."""
    text = getattr(clip, "text", clip)
    _require_standard(clip.visual, text, name)
    vision_weights, text_weights = (
        {name: weight.detach().float() for name, weight in part.state_dict().items()}
        for part in (clip.visual, text)
    )
    words = {n: w for n, w in text_weights.items() if n.startswith(TEXT_WEIGHTS)}
    text_config = _transformer_config(text.transformer) | {
        "context_length": text.positional_embedding.shape[0],
        "logit_scale": clip.logit_scale.item(),
    }
    vision = Tower(vision_weights, _vision_config(clip.visual))
    return vision, Tower(words, text_config)


def _vision_config(visual) -> dict:
    return _transformer_config(visual.transformer) | {
        "image_size": visual.image_size[0],
        "patch_size": visual.patch_size[0],
        **_pixels(visual),
    }


def _pixels(visual) -> dict[str, list[float]]:
    from open_clip.model import get_model_preprocess_cfg

    known = ASSUMED | get_model_preprocess_cfg(visual)
    return {name: [*known[name]] for name in PIXELS}


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
    pool = getattr(text, "text_pool_type", None)
    checks = {
        "a ViT with a class token": lambda: visual.pool_type == "tok",
        "no attentional pooling": lambda: visual.attn_pool is None,
        "ln_pre": lambda: hasattr(visual.ln_pre, "weight"),
        "ln_post before pooling": lambda: not visual.final_ln_after_pool,
        "square images": lambda: len({*visual.image_size}) == 1,
        "square patches": lambda: len({*visual.patch_size}) == 1,
        "standard vision blocks": lambda: _is_standard(visual.transformer),
        "standard text blocks": lambda: _is_standard(text.transformer),
        "no class token in the text": lambda: getattr(text, "cls_emb", None) is None,
        "causal text attention": lambda: text.attn_mask is not None,
        "text read at [EOS]": lambda: (pool or text.pool_type) == "argmax",
        "a plain text projection": lambda: text.text_projection.ndim == 2,
        "the CLIP vocabulary": lambda: text.token_embedding.num_embeddings == 49408,
    }
    for requirement, check in checks.items():
        with suppress(AttributeError):
            if check():
                continue
        raise UserError(
            f"model: {name} is not a standard CLIP ViT (needs {requirement}); "
            "take one like ViT-B-16-plus-240, ViT-B-16 or ViT-L-14"
        )


def _is_standard(transformer) -> bool:
    return all(
        type(block).__name__ == "ResidualAttentionBlock"
        and type(block.ls_1).__name__ == "Identity"
        and getattr(block.mlp.gelu, "approximate", "none") == "none"
        for block in transformer.resblocks
    )


def _check_tag(model: str, tag: str) -> None:
    """Raise UserError unless `tag` names weights that fit `model`."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise UserError(
            f"pretrained: {tag!r} is neither a checkpoint file nor a tag of "
            f"{model} (tags: {', '.join(tags) or 'none'})"
        )
    trained = open_clip.get_pretrained_cfg(model, tag).get("quick_gelu", False)
    if trained and not open_clip.get_model_config(model).get("quick_gelu", False):
        raise UserError(
            f"model: {tag!r} was trained with QuickGELU, which {model} does "
            f"not use; take {model}-quickgelu"
        )


def _check_download(model: str, tag: str) -> None:
    """Download the weights of a tag unless they are cached; UserError if damaged.

    The cache of the hub names a file of weights by its SHA-256.
    """
    import open_clip

    weights = open_clip.get_pretrained_cfg(model, tag)
    path = Path(open_clip.download_pretrained(weights)).resolve()
    if HUB_DIGEST.fullmatch(path.name) and file_digest(path) != path.name:
        raise UserError(
            f"pretrained: {path}, the weights {tag!r} of {model}, does "
            "not have the SHA-256 in its name; delete it and run again"
        )


def _no_weights(backbone: Mapping, path: str | None, error: Exception) -> UserError:
    if isinstance(error, OSError) and path is not None:
        return unreadable(path, error)
    model = model_source(backbone)
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    text = f"{path} holds no weights of {model}: {reason}"
    if path is None:
        text = (
            f"weights {backbone['pretrained']!r} of {model} are not on this machine "
            f"and could not be downloaded ({reason}); run once with a network, or name "
            "a local checkpoint file"
        )
    return UserError(f"pretrained: {text}")
