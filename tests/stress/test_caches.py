"""Caches."""

import json
import shutil
from pathlib import Path

import pytest

from fsad.artifacts import files
from fsad.backbones import transformer
from helpers import TINY
from project import Project

BACKBONE = "features/tiny-*"
CLASS = "own/bolt"
# kind of artefact: its file, and what is made from it
ARTEFACTS = {
    "test images": (f"cache/{CLASS}/test_px32.npz", f"{BACKBONE}/original/{CLASS}"),
    "support images": (
        f"cache/{CLASS}/support_k1_s111_px32.npz",
        f"{BACKBONE}/original/{CLASS}/support_k1_s111.*",
    ),
    "masks": (f"cache/{CLASS}/masks_r32.npz", f"runs/original/{CLASS}/k1/s111/seg"),
    "prompts": (f"cache/{CLASS}/prompts.npz", f"runs/original/{CLASS}"),
    "vision tower": (
        f"{BACKBONE}/vision.safetensors",
        f"{BACKBONE}/original/{CLASS}",
    ),
    "text tower": (f"{BACKBONE}/text.safetensors", f"runs/original/{CLASS}"),
    "test features": (
        f"{BACKBONE}/original/{CLASS}/test.npz",
        f"runs/original/{CLASS}",
    ),
    "support features": (
        f"{BACKBONE}/original/{CLASS}/support_k1_s111.npz",
        f"runs/original/{CLASS}",
    ),
    "scores": (
        f"runs/original/{CLASS}/k1/s111/seg/scores.npz",
        f"runs/original/{CLASS}/k1/s111/seg/vis",
    ),
    "metrics": (f"runs/original/{CLASS}/k1/s111/seg/metrics.json", "tables"),
}


def flipped(path: Path, _: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def swapped(path: Path, other: Path) -> None:
    shutil.copyfile(other, path)


def older(path: Path, _: Path) -> None:
    """The file as code of another digest would have written it."""
    if path.suffix == ".npz":
        settings = files.read_settings(path) | {"code": "older"}
        files.write_npz(path, files.read_npz(path), settings)
    elif path.suffix == ".json":
        run = files.read_record(path)
        run["settings"]["code"] = "older"
        files.write_record(path, run)
    else:
        weights, described = transformer.load_tensors(path, "settings")
        tower = transformer.Tower(weights, described["config"])
        settings = described["settings"] | {"code": "older"}
        transformer.save_tower(path, tower, settings)


DAMAGES = (flipped, truncated, empty, swapped, older)
CASES = [f"{kind}, {how.__name__}" for kind in ARTEFACTS for how in DAMAGES]
SHORT = 25


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished project, left as it is, and its tables."""
    project = Project(tmp_path_factory.mktemp("caches")).write()
    (project.folder / "tiny.json").write_text(json.dumps(TINY))
    project.configure(shots=[1], vis=True)
    project.snakemake()
    return project, project.tables()


@pytest.fixture
def copy(whole, tmp_path):
    """Such a project to be spoiled."""
    shutil.copytree(whole[0].folder, tmp_path / "copy", symlinks=True)
    return Project(tmp_path / "copy")


def only(results: Path, pattern: str) -> list[Path]:
    found = sorted(results.glob(pattern))
    assert found
    return found


def other_of(path: Path) -> Path:
    """The file of the same kind of another class, or the other tower."""
    if path.suffix == ".safetensors":
        (other,) = (p for p in path.parent.glob("*.safetensors") if p != path)
        return other
    return Path(str(path).replace("/own/bolt/", "/own/metal_nut/"))


def test_a_spoiled_cache_is_refused_by_name_or_made_anew(copy, whole, case):
    """Cached files, each refused by name or made anew; deleted, all is as before."""
    kind, _, how = case.partition(", ")
    spoil = next(damage for damage in DAMAGES if damage.__name__ == how)
    results = copy.folder / "results"
    (path,) = only(results, ARTEFACTS[kind][0])
    spoil(path, other_of(path))
    for made in only(results, ARTEFACTS[kind][1]):
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    run = copy.snakemake(check=False)
    output = run.stdout + run.stderr
    if run.returncode:
        assert f"error: {path.relative_to(copy.folder)}: " in output
        assert "Traceback (most" not in output
        path.unlink()
        copy.snakemake()
    assert copy.tables() == whole[1]
