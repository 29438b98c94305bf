import pytest

from fsad.errors import UserError
from fsad.methods.registry import METHODS
from fsad.reports import references
from fsad.reports.literature import CLASSES
from helpers import REPOSITORY
from reports.contents import run

SHIPPED = REPOSITORY / "config/references.bib"


@pytest.fixture(scope="module")
def shipped():
    return references.read_references(SHIPPED)


def test_every_method_benchmark_and_known_backbone_has_an_entry(shipped):
    backbones = {key for keys in references.BACKBONES.values() for key in keys}
    assert set(shipped) == {*METHODS, *CLASSES, *backbones}


def test_every_entry_has_the_fields_that_a_style_needs(shipped):
    for entry in shipped.values():
        for field in ("author", "title", "year"):
            assert f"  {field} " in entry
        assert entry.count("{") == entry.count("}")


def test_entries_are_cited_for_what_ran(shipped):
    runs = [
        run("nut", 80, method="patchcore", backbone="wide_resnet50_2.tv_in1k_px224"),
        run("nut", 80, dataset="own", backbone="vit_giant_patch14_reg4_dinov2.lvd142m"),
    ]
    keys = references.cited(runs, shipped)
    expected = "promptad", "patchcore", "dinov2", "registers", "wide_resnet", "mvtec"
    assert keys == [*expected]


def test_the_bibliography_reads_back(shipped, tmp_path):
    path = tmp_path / "references.bib"
    path.write_text(references.bibliography(["visa", "clip"], shipped))
    assert references.read_references(path) == {
        key: shipped[key] for key in ("visa", "clip")
    }


@pytest.mark.parametrize("content", [None, "", "@article{a, title = {b}}\n"])
def test_a_wrong_file_is_named(tmp_path, content):
    path = tmp_path / "own.bib"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"own\.bib: .*; mend it"):
        references.read_references(path)
