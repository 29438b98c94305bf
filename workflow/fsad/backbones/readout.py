"""Readouts: what is kept of a frozen backbone, without its code."""

from collections.abc import Mapping
from typing import NamedTuple

from fsad.artifacts.content import digest_of
from fsad.data.augment import Augment
from fsad.data.views import View
from fsad.errors import UserError


class Readout(NamedTuple):
    """What is read out of a frozen backbone for a method.

    name: of the folder of its features. kind: `promptad`, `tokens`, `neighbourhoods` or
    `windows`. view: how images become inputs. augment: of support images. fields:
    options of the kind; of `promptad` the fields of a Variant; of `tokens` `blocks`
    (`last`, `auto` or a list of 0-based blocks, whose tokens are averaged), `norm`
    (whether the final norm is applied) and `moments` (whether of the support images
    count, sum and outer products are kept, instead of every patch); of `neighbourhoods`
    `layers` (`auto` or a list of names), `layer_width` and `patch_width` (each `auto`
    or a number); of `windows` `scales` (sides of windows in patches) and `norm` (of
    the patches, as for `tokens`).
    """

    name: str
    kind: str
    view: View
    augment: Augment
    fields: Mapping


def described(readout: Readout) -> dict:
    """A readout as nested mappings, for records."""
    nested = {"view": readout.view._asdict(), "augment": readout.augment._asdict()}
    return {**readout._asdict(), **nested, "fields": dict(readout.fields)}


def parse_readout(found: Mapping) -> Readout:
    """The readout of a mapping of `described`."""
    view, augment = View(**found["view"]), Augment(**found["augment"])
    return Readout(found["name"], found["kind"], view, augment, found["fields"])


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


def variant_readout(variant: Variant, view: View) -> Readout:
    """The features of PromptAD in a variant."""
    name = variant_name(variant) + _suffix(view)
    return Readout(name, "promptad", view, Augment(), variant._asdict())


def named_readout(kind: str, view: View, augment: Augment, fields: Mapping) -> Readout:
    """A readout named by its kind, a digest of its fields, and the copies."""
    name = f"{kind}-{digest_of(fields)[:8]}{_suffix(view)}{augment.name}"
    return Readout(name, kind, view, augment, fields)


def _suffix(view: View) -> str:
    return ("_edge" if view.fit == "edge" else "") + view.tiles_name
