"""Attention variants of the vision tower."""

from collections.abc import Mapping
from typing import NamedTuple

from fsad.errors import UserError


class Variant(NamedTuple):
    """Attention of the vision tower.

    path: `dual` runs a dense path beside CLIP's own one, `single` the dense path only.
    attention: projection that is compared with itself, `vv`, `qq` or `kk`. ffn,
    residual: whether the dense path has feed-forwards and skip connections.
    """

    path: str
    attention: str
    ffn: bool
    residual: bool


VARIANTS = {
    "original": Variant("dual", "vv", ffn=False, residual=True),
    "qq_dual": Variant("dual", "qq", ffn=False, residual=True),
    "kk_dual": Variant("dual", "kk", ffn=False, residual=True),
    "qq_residual": Variant("single", "qq", ffn=False, residual=True),
    "kk_residual": Variant("single", "kk", ffn=False, residual=True),
    "vv_residual": Variant("single", "vv", ffn=False, residual=True),
    "qq_no_residual": Variant("single", "qq", ffn=False, residual=False),
    "kk_no_residual": Variant("single", "kk", ffn=False, residual=False),
    "vv_no_residual": Variant("single", "vv", ffn=False, residual=False),
}


def parse_variant(spec: str | Mapping) -> Variant:
    """Variant from its name or from a mapping of its four fields."""
    if not isinstance(spec, str):
        return Variant(**spec)
    if spec not in VARIANTS:
        raise UserError(f"variant: {spec!r} is unknown; take {', '.join(VARIANTS)}")
    return VARIANTS[spec]


def variant_name(variant: Variant) -> str:
    """Name of a variant; composed of its fields if it is not in VARIANTS."""
    names = {known: name for name, known in VARIANTS.items()}
    ffn = "ffn" if variant.ffn else "no_ffn"
    residual = "residual" if variant.residual else "no_residual"
    composed = f"{variant.path}_{variant.attention}_{ffn}_{residual}"
    return names.get(variant, composed)
