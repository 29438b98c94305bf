"""Towers of a backbone, loaded by its library."""

from collections.abc import Mapping

from fsad.backbones.clip import load_backbone
from fsad.backbones.spec import OPEN_CLIP
from fsad.backbones.tower import Tower


def load_towers(backbone: Mapping) -> dict[str, Tower]:
    """Load the towers of a backbone: `vision`, and `text` of open_clip.

    Raises UserError if the weights cannot be loaded or are of another network.
    """
    if backbone["library"] == OPEN_CLIP:
        return dict(zip(("vision", "text"), load_backbone(backbone), strict=True))
    from fsad.backbones.timm_models import load_timm

    return {"vision": load_timm(backbone)}
