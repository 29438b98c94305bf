"""Specification of a backbone: name, model configuration, checkpoint file.

Imported while the pipeline is planned, so it imports no torch, open_clip or timm.
"""

import difflib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fsad.artifacts.content import digest_of
from fsad.artifacts.digests import Memory, file_digests
from fsad.artifacts.files import is_file, unreadable
from fsad.backbones.readout import Readout
from fsad.errors import UserError

RANDOM = "random"
DIGEST_LENGTH = 12
# Of a folder of the Hugging Face hub, and its weights in the order of open_clip.
HUB_CONFIG = "open_clip_config.json"
HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
HUB_WEIGHTS += ("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth")
HUB_WEIGHTS += ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth")
PIXELS = ("mean", "std")  # options of the normalisation of pixels
OPEN_CLIP, TIMM = "open_clip", "timm"
DEFAULTS = {"model": "ViT-B-16-plus-240", "pretrained": "laion400m_e32"}
# Widths of timm's ViTs by their names; largest width and usual stride of PatchCore.
WIDTHS = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "huge": 1280}
WIDTHS |= {"giant": 1536, "so400m": 1152}
MOST_CHANNELS, CNN_STRIDE = 1024, 8
TAGGED = re.compile(r"[a-z0-9_]+\.[A-Za-z0-9_.]+")  # MODEL.TAG of timm
# Those of OpenAI's CLIP, of checkpoints that name none.
ASSUMED = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}


@contextmanager
def named_backbone(name: str) -> Iterator[None]:
    """Have errors begin with the backbone of the configuration that is at fault."""
    try:
        yield
    except UserError as error:
        raise UserError(f"backbones.{name}: {error}") from None


def complete_backbone(backbone: Mapping) -> dict:
    """Options of a backbone with the defaults of its library.

    Raises UserError where an option must be given.
    """
    if backbone["library"] == OPEN_CLIP:
        return DEFAULTS | backbone
    for option in ("model", "image_size"):
        if option not in backbone:
            raise UserError(f"{option}: must be given for timm")
    return dict(backbone)


def backbone_name(backbone: Mapping, memory: Memory | None = None) -> str:
    """Folder name of a backbone: its model, and tag or file digest of its weights.

    memory: see `digests.file_digests`.
    """
    model, file = model_source(backbone), weights_file(backbone)
    if model.endswith(".json") and is_file(model):
        model = f"{Path(model).stem}-{_digest(model, memory)[:DIGEST_LENGTH]}"
    pixels = {name: backbone[name] for name in PIXELS if name in backbone}
    if pixels:
        model += f"-pixels-{digest_of(pixels)[:DIGEST_LENGTH]}"
    weights = backbone.get("pretrained")
    if weights == RANDOM:
        weights = f"random{backbone['random_seed']}"
    elif file is not None:
        weights = f"sha256-{_digest(file, memory)[:DIGEST_LENGTH]}"
    size = f"px{backbone['image_size']}" if "image_size" in backbone else None
    return "_".join(filter(None, [model, weights, size]))


def model_source(backbone: Mapping) -> str:
    """Name of a model, or path of its configuration, that of a hub folder first."""
    config = Path(backbone.get("pretrained") or "", HUB_CONFIG)
    return str(config) if is_file(config) else backbone["model"]


def weights_file(backbone: Mapping) -> str | None:
    """Path of a local checkpoint, in a hub folder too; None for a tag or `random`."""
    path = Path(backbone.get("pretrained") or "")
    if is_file(path):
        return str(path)
    if not is_file(path / HUB_CONFIG):
        return None
    for name in HUB_WEIGHTS:
        if is_file(path / name):
            return str(path / name)
    raise UserError(
        f"pretrained: {path} holds no weights, {HUB_WEIGHTS[0]} for example; "
        "download the whole folder"
    )


def pixel_statistics(backbone: Mapping) -> dict[str, list[float]]:
    """`mean` and `std` of pixels, where options or else a hub folder set them."""
    hub = Path(backbone.get("pretrained") or "", HUB_CONFIG)
    config = _read_config(hub) if is_file(hub) else {}
    try:
        found = {**config.get("preprocess_cfg", {}), **backbone}
        found = {name: [*map(float, found[name])] for name in PIXELS if name in found}
        if any(len(values) != 3 for values in found.values()):
            raise ValueError("mean and std must be of three colours")
        return found
    except (ValueError, TypeError, AttributeError) as error:
        raise _no_config(hub, error) from error


def assumptions(backbone: Mapping) -> list[str]:
    """What is assumed of a checkpoint: statistics of pixels that it does not hold."""
    if weights_file(backbone) is None or backbone["library"] == TIMM:
        return []
    missing = [name for name in PIXELS if name not in pixel_statistics(backbone)]
    return [
        f"{name}: {ASSUMED[name]} of OpenAI's CLIP is assumed for the file of "
        "weights, which names none; this option sets another"
        for name in missing
    ]


def is_random(name: str) -> bool:
    """Whether a backbone with this name has random weights."""
    return re.fullmatch(f".*_{RANDOM}[0-9]+(_px[0-9]+)?", name) is not None


def check_backbone(backbone: Mapping, memory: Memory | None = None) -> None:
    """Raise UserError for an invalid model or checkpoint file.

    The checkpoint must match the digest in a file of sha256sum beside it, if there is
    one, named like the checkpoint with `.sha256` added. memory: see `backbone_name`.
    """
    weights, source = weights_file(backbone), backbone.get("pretrained")
    if backbone["library"] == OPEN_CLIP:
        model_config(model_source(backbone))
    else:
        _check_timm(backbone)
    pixel_statistics(backbone)
    if weights is None:
        if "/" in (source or ""):
            raise UserError(
                f"pretrained: no checkpoint file {source}, nor a folder with "
                f"{HUB_CONFIG}"
            )
        return
    expected = Path(f"{weights}.sha256")
    if not is_file(expected):
        return
    try:
        held = expected.read_text().split()[:1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{expected}: cannot be read ({error})") from None
    if held != [_digest(weights, memory)]:
        raise UserError(
            f"pretrained: {weights} is not the file whose SHA-256 "
            f"{expected} holds; download it again, or recreate that file with sha256sum"
        )


def _check_timm(backbone: Mapping) -> None:
    """Raise UserError for a name whose weights are not defined, or no file of them.

    Whether timm knows it is seen when the weights are loaded.
    """
    model, source = backbone["model"], backbone.get("pretrained")
    if source is None and not TAGGED.fullmatch(model):
        raise UserError(
            f"model: {model!r} is not MODEL.TAG of timm, whose tag names the weights; "
            f"`fsad backbones {model}` lists them"
        )
    if source not in (None, RANDOM) and weights_file(backbone) is None:
        raise UserError(
            f"pretrained: {source!r} is no file of weights, nor `random`; the tag of "
            "weights to download stands in `model`, as MODEL.TAG"
        )


def _digest(path: str, memory: Memory | None) -> str:
    return file_digests([path], memory)[Path(path)]


def check_unchanged(backbone: Mapping, name: str) -> None:
    """Raise UserError if files have changed since `backbone_name` returned `name`."""
    if backbone_name(backbone) != name:
        raise UserError(
            f"its files changed after the run of {name} was planned; start it again"
        )


def image_size(backbone: Mapping) -> int:
    """Side in pixels of the square images that a backbone takes."""
    if "image_size" in backbone:
        return backbone["image_size"]
    return model_config(model_source(backbone))["vision_cfg"]["image_size"]


def feature_bytes(backbone: Mapping, readout: Readout) -> int | None:
    """Bytes of the features of an image in files.

    None where the name of a timm model does not give it. Of PromptAD: the global
    feature and, for each patch, one feature in the joint space and two of the width of
    the vision tower, in float32; others have one feature for each patch, in float16,
    with `windows` beside the global one and one for each window, in the joint space.
    """
    patches, width = _patches(backbone, readout.view.size)
    if readout.kind in ("promptad", "windows"):
        joint = model_config(model_source(backbone))["embed_dim"]
    if readout.kind == "promptad":
        return 4 * (joint + patches * (joint + 2 * width))
    if readout.kind == "windows":
        side = round(patches**0.5)
        windows = sum((side - scale + 1) ** 2 for scale in readout.fields["scales"])
        return 2 * (patches * width + (1 + windows) * joint)
    if readout.kind == "neighbourhoods":
        chosen = readout.fields["patch_width"]
        width = MOST_CHANNELS if chosen == "auto" else chosen
    return 2 * patches * width if width else None


def support_bytes(backbone: Mapping, readout: Readout) -> int | None:
    """Bytes of the features of a support image and its copies, as `feature_bytes`.

    Moments are a number, a sum and a sum of outer products, in float64.
    """
    if readout.fields.get("moments"):
        _, width = _patches(backbone, readout.view.size)
        return 8 * (1 + width + width**2) if width else None
    image = feature_bytes(backbone, readout)
    return image and max(1, readout.augment.count) * image


def _patches(backbone: Mapping, size: int) -> tuple[int, int | None]:
    """Count of patches of a square image, and width of a ViT by its name."""
    if backbone["library"] == OPEN_CLIP:
        vision = model_config(model_source(backbone))["vision_cfg"]
        return (size // vision["patch_size"]) ** 2, vision["width"]
    patch = re.search(r"patch(\d+)", backbone["model"])
    named = (w for word, w in WIDTHS.items() if f"_{word}_" in backbone["model"])
    return (size // int(patch[1] if patch else CNN_STRIDE)) ** 2, next(named, None)


def model_config(model: str) -> dict:
    """Read the open_clip configuration of a model name or a .json file.

    open_clip is not imported, which would take seconds.
    """
    builtin = Path(importlib.util.find_spec("open_clip").origin).parent
    builtin /= "model_configs"
    path = Path(model) if model.endswith(".json") else builtin / f"{model}.json"
    if not is_file(path):
        known = sorted(path.stem for path in builtin.glob("*.json"))
        close = difflib.get_close_matches(model, known, cutoff=0.4)
        raise UserError(
            f"model: {model!r} is neither an open_clip model nor a .json "
            f"file; close to it: {', '.join(close) or 'none'}"
        )
    config = _read_config(path)
    try:
        config = config.get("model_cfg", config)  # that of a hub folder is nested
        sizes = [config["vision_cfg"][name] for name in ("image_size", "patch_size")]
        if {type(size) for size in (*sizes, config["text_cfg"]["width"])} != {int}:
            raise ValueError("sizes must be whole numbers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_config(path, error) from error
    return config


def _read_config(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise _no_config(path, error) from error


def _no_config(path: Path, error: Exception) -> UserError:
    return UserError(f"model: {path} is not an open_clip ViT configuration ({error})")
