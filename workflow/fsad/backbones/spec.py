"""Specification of a backbone: name, model configuration, checkpoint file.

Imported while the pipeline is planned, so it imports neither torch nor open_clip.
"""

import difflib
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path

from fsad.artifacts.digests import Memory, file_digests
from fsad.errors import UserError

RANDOM = "random"
DIGEST_LENGTH = 12


def backbone_name(backbone: Mapping, memory: Memory | None = None) -> str:
    """Folder name of a backbone: its model, and tag or file digest of its weights.

    memory: see `digests.file_digests`.
    """
    model, pretrained = backbone["model"], backbone["pretrained"]
    if model.endswith(".json") and Path(model).is_file():
        model = f"{Path(model).stem}-{_digest(model, memory)[:DIGEST_LENGTH]}"
    if pretrained == RANDOM:
        return f"{model}_random{backbone['random_seed']}"
    if Path(pretrained).is_file():
        pretrained = f"sha256-{_digest(pretrained, memory)[:DIGEST_LENGTH]}"
    return f"{model}_{pretrained}"


def is_random(name: str) -> bool:
    """Whether a backbone with this name has random weights."""
    return re.fullmatch(f".*_{RANDOM}[0-9]+", name) is not None


def check_backbone(backbone: Mapping, memory: Memory | None = None) -> None:
    """Raise UserError for an invalid model or checkpoint file.

    The checkpoint must match the digest in a file of sha256sum beside it, if there is
    one, named like the checkpoint with `.sha256` added. memory: see `backbone_name`.
    """
    model_config(backbone["model"])
    pretrained = backbone["pretrained"]
    if "/" in pretrained and not Path(pretrained).is_file():
        raise UserError(f"backbone.pretrained: no checkpoint file {pretrained}")
    expected = Path(f"{pretrained}.sha256")
    if not expected.is_file():
        return
    if expected.read_text().split()[:1] != [_digest(pretrained, memory)]:
        raise UserError(
            f"backbone.pretrained: {pretrained} is not the file whose SHA-256 "
            f"{expected} holds; download it again, or recreate that file with sha256sum"
        )


def _digest(path: str, memory: Memory | None) -> str:
    return file_digests([path], memory)[Path(path)]


def check_unchanged(backbone: Mapping, name: str) -> None:
    """Raise UserError if files have changed since `backbone_name` returned `name`."""
    if backbone_name(backbone) != name:
        raise UserError(
            f"backbone: its files changed after the run of {name} was planned; "
            "start it again"
        )


def image_size(backbone: Mapping) -> int:
    """Side in pixels of the square images that a backbone takes."""
    return model_config(backbone["model"])["vision_cfg"]["image_size"]


def feature_numbers(backbone: Mapping) -> int:
    """Count of numbers in the features of an image.

    These are the global feature and, for each patch, one feature in the joint space
    and two of the width of the vision tower.
    """
    config = model_config(backbone["model"])
    vision, joint = config["vision_cfg"], config["embed_dim"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    return joint + patches * (joint + 2 * vision["width"])


def model_config(model: str) -> dict:
    """Read the open_clip configuration of a model name or a .json file.

    open_clip is not imported, which would take seconds.
    """
    builtin = Path(importlib.util.find_spec("open_clip").origin).parent
    builtin /= "model_configs"
    path = Path(model) if model.endswith(".json") else builtin / f"{model}.json"
    if not path.is_file():
        known = sorted(path.stem for path in builtin.glob("*.json"))
        close = difflib.get_close_matches(model, known, cutoff=0.4)
        raise UserError(
            f"backbone.model: {model!r} is neither an open_clip model nor a .json "
            f"file; close to it: {', '.join(close) or 'none'}"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        sizes = [config["vision_cfg"][name] for name in ("image_size", "patch_size")]
        if {type(size) for size in (*sizes, config["text_cfg"]["width"])} != {int}:
            raise ValueError("sizes must be whole numbers")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"backbone.model: {path} is not an open_clip ViT configuration ({error})"
        ) from error
    return config
