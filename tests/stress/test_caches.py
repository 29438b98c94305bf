"""Caches."""

import re
import shutil
from pathlib import Path

import pytest

from fsad.artifacts import files
from fsad.backbones.tower import Tower, load_tensors, save_tower
from project import Project

pytestmark = pytest.mark.long
SEG = "runs/original/own/bolt/k1/s111/seg"
PREDICTION = {"run": SEG.removeprefix("runs/"), "images": "data/metal_nut/test"}
CACHE = "cache/own/bolt"
RUNS = "runs/original/own/bolt"
BACKBONE = "features/tiny-*"
FEATURES = f"{BACKBONE}/original/own/bolt"
PAGE = "report/own/original/examples.html"
# kind of artefact: its file, and what is made from it, to be made again
ARTEFACTS = {
    "test images": (f"{CACHE}/test_px32.npz", FEATURES, RUNS),
    "test images of panels": (f"{CACHE}/test_px32.npz", f"{SEG}/vis"),
    "support images": (f"{CACHE}/support_s111_px32.npz", FEATURES, RUNS),
    "support images of a detector": (f"{CACHE}/support_s111_px32.npz", "predict/new"),
    "masks": (f"{CACHE}/masks_r32.npz", SEG),
    "prompts": (f"{CACHE}/prompts.npz", RUNS),
    "vision tower": (f"{BACKBONE}/vision.safetensors", FEATURES, RUNS),
    "vision tower of a detector": (f"{BACKBONE}/vision.safetensors", "predict/new"),
    "text tower": (f"{BACKBONE}/text.safetensors", RUNS),
    "test features": (f"{FEATURES}/test.npz", RUNS),
    "support features": (f"{FEATURES}/support_s111.npz", RUNS),
    "support features of a detector": (f"{FEATURES}/support_s111.npz", "predict/new"),
    "model": (f"{SEG}/model.npz", "predict/new"),
    "scores": (f"{SEG}/scores.npz", f"{SEG}/vis"),
    "scores of a page": (f"{SEG}/scores.npz", PAGE),
    "test images of a page": (f"{CACHE}/test_px32.npz", PAGE),
    "masks of a page": (f"{CACHE}/masks_r32.npz", PAGE),
    "metrics": (f"{SEG}/metrics.json", "tables"),
    "record of a prediction": ("predict/new/record.json", "predict/new/scores.csv"),
    "record of the report": ("report/record.json", PAGE),
    "memory of digests": ("digests.json", "tables"),
}
COMPARED = "cache", "features", "runs", "tables", "predict", "report/own"


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
        content = files.read_record(path)
        content.get("settings", content)["code"] = "older"
        files.write_record(path, content)
    else:
        weights, described = load_tensors(path, "settings")
        settings = described["settings"] | {"code": "older"}
        save_tower(path, Tower(weights, described["config"]), settings)


DAMAGES = (flipped, truncated, empty, swapped, older)
CASES = [f"{kind}, {how.__name__}" for kind in ARTEFACTS for how in DAMAGES]
CASES.remove("memory of digests, older")  # it has no record
SHORT = len(CASES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished project, left as it is, and its files."""
    project = Project(tmp_path_factory.mktemp("caches")).write()
    project.configure(shots=[1], vis=True, predict={"new": PREDICTION})
    project.snakemake()
    return project, contents(project.folder / "results")


@pytest.fixture
def copy(whole, tmp_path):
    """Such a project to be damaged."""
    shutil.copytree(whole[0].folder, tmp_path / "copy", symlinks=True)
    return Project(tmp_path / "copy")


def contents(results: Path) -> dict[str, bytes]:
    """Every file that is the same in each run, by path."""
    found = (path for name in COMPARED for path in (results / name).rglob("*"))
    return {str(p.relative_to(results)): p.read_bytes() for p in found if p.is_file()}


def only(results: Path, pattern: str) -> Path:
    """The one file or folder of a pattern."""
    (found,) = results.glob(pattern)
    return found


def other_of(path: Path, results: Path) -> Path:
    """The file of the same kind of another class, or of another kind."""
    if "/own/bolt/" in str(path):
        return Path(str(path).replace("/own/bolt/", "/own/metal_nut/"))
    found = sorted(results.rglob(f"*{path.suffix}"))
    return next(other for other in found if other != path)


def test_a_damaged_cache_is_refused_by_name_or_made_again(copy, whole, case):
    """Cached files, each refused by name or made again; deleted, all is as before."""
    kind, _, how = case.partition(", ")
    damage = next(damage for damage in DAMAGES if damage.__name__ == how)
    results = copy.folder / "results"
    path, *deleted = (only(results, pattern) for pattern in ARTEFACTS[kind])
    damage(path, other_of(path, results))
    for made in deleted:
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    run = copy.snakemake(check=False)
    found, expected = contents(results), dict(whole[1])
    if run.returncode:
        assert_named(run.stdout + run.stderr, path.relative_to(copy.folder))
        path.unlink()
        copy.snakemake()
        found = contents(results)
    else:  # a file that nothing read may be damaged still
        for known in (found, expected):
            known.pop(str(path.relative_to(results)), None)
    assert found == expected


def assert_named(output, path):
    assert re.search(f"{re.escape(str(path))}: (damaged|is of)", output), output
    assert "Traceback (most" not in output
