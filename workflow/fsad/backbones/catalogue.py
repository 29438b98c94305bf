"""List of the backbones with pretrained weights in timm and open_clip."""

from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from typing import NamedTuple

from fsad.backbones.spec import TIMM, model_config
from fsad.backbones.timm_models import CNNS, VITS, network_config
from fsad.errors import UserError


class Row(NamedTuple):
    """A backbone: library, model and tag of its options, side in pixels, licence.

    licence: empty where the library does not record it.
    """

    library: str
    model: str
    tag: str
    image_size: int
    licence: str


def list_backbones(pattern: str = "") -> list[Row]:
    """Backbones whose MODEL.TAG has a word in it, also with `*` and `?`, sorted.

    These are ViTs and CNNs of timm and CLIP ViTs of open_clip; nothing is downloaded.
    """
    glob = f"*{pattern}*"
    rows = [*_timm_rows(glob), *_open_clip_rows(glob)]
    return sorted(rows)


def _timm_rows(glob: str) -> Iterator[Row]:
    import timm

    for module in (*VITS, *CNNS):
        for name in timm.list_models(module=module, pretrained=True):
            if fnmatch(name.lower(), glob.lower()):
                config, (model, _, tag) = network_config(name), name.partition(".")
                size, licence = config["input_size"][-1], config.get("license") or ""
                yield Row(TIMM, model, tag, size, licence)


def _open_clip_rows(glob: str) -> Iterator[Row]:
    import open_clip

    for model, tag in open_clip.list_pretrained():
        with suppress(UserError):  # not a ViT
            size = model_config(model)["vision_cfg"]["image_size"]
            if fnmatch(f"{model}.{tag}".lower(), glob.lower()):
                yield Row("open_clip", model, tag, size, "")
