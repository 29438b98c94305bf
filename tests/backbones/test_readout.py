import subprocess
import sys

import pytest

from fsad.backbones.readout import (
    VARIANTS,
    Variant,
    parse_variant,
    variant_name,
    variant_readout,
)
from fsad.data.views import View
from fsad.errors import UserError


@pytest.mark.parametrize("name", VARIANTS)
def test_a_named_variant_keeps_its_name(name):
    assert variant_name(parse_variant(name)) == name


def test_a_variant_from_its_fields():
    fields = {"path": "single", "attention": "vv", "ffn": True, "residual": False}
    assert parse_variant(fields) == Variant("single", "vv", True, False)


def test_the_fields_of_a_named_variant_give_its_name():
    assert variant_name(parse_variant(VARIANTS["qq_dual"]._asdict())) == "qq_dual"


def test_no_two_variants_share_a_name():
    every = [
        Variant(path, attention, ffn, residual)
        for path in ("single", "dual")
        for attention in ("vv", "qq", "kk")
        for ffn in (True, False)
        for residual in (True, False)
    ]
    assert len({variant_name(variant) for variant in every}) == len(every)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"'vv' is unknown; take original.*qq_dual"):
        parse_variant("vv")


def test_the_readout_of_promptad_holds_the_fields_of_its_variant():
    readout = variant_readout(VARIANTS["qq_dual"], View("square", 240))
    assert readout.name == "qq_dual"
    assert readout.view == View("square", 240, "area")
    assert Variant(**readout.fields) == VARIANTS["qq_dual"]


def test_readouts_import_no_torch():
    code = "import fsad.backbones.readout, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
