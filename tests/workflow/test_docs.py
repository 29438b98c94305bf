"""Every command that the documentation shows, tried in the order it is read.

Commands stand in blocks marked `sh`. They run in a copy of the repository, in which
the micro project's results stand in for the demo's, tiny images for a class of each
data set. test_pipeline plans all classes.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import forked
from fsad.cli import COMMANDS
from fsad.demo.dataset import CLASSES
from helpers import REPOSITORY, TINY, write_class
from project import Project

DOCUMENTS = ("README.md", "config/README.md")
DOCUMENTS += ("docs/methods.md", "docs/demo_backbone.md")
COPIED = ("Snakefile", "Makefile", "config", "profiles", "workflow", "envs")
DEMO_RUN = "runs/promptad/demo/woven_fabric/k4/s111/seg"
ONE_CLASS = {"mvtec": "bottle", "visa": "candle"}
MODULES = {"snakemake": "snakemake.cli", "fsad": "fsad.cli"}
# What is not tried as it stands: planned alone, or with small weights.
INSTEAD = {
    r"\bmake ": "make --dry-run --assume-old .venv/ready ",
    r"\bsnakemake ": "snakemake --dry-run --quiet rules ",
    r"^fsad train ": "fsad train --config tiny.yaml ",
}
SKIPPED = {
    "make test": "these are the tests",
    "fsad verify": "it takes minutes; .ci/run has `make verify`",
    "fsad train-demo-clip": "it takes an hour",
    "pip install": "it fetches packages",
    ".onnx": "its packages are apart; tests/deployment has them",
    "--report": "it needs finished results of the data set",
}


def blocks(document, *marks):
    """The contents of the blocks of a document that bear one of the marks."""
    text = (REPOSITORY / document).read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [content for mark, content in found if mark in marks]


def commands(*documents):
    """The commands of documents in order, one line each, without comments."""
    shown = [block for document in documents for block in blocks(document, "sh")]
    lines = "".join(shown).replace("\\\n", " ").splitlines()
    stripped = (re.sub(r"\s+", " ", line.partition(" #")[0]).strip() for line in lines)
    return [line for line in stripped if line]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the repository with data and results for the documents' commands."""
    folder = tmp_path_factory.mktemp("clone")
    for name in COPIED:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    write_data(folder)
    make_run(folder)
    return folder


def make_run(folder):
    """The run of the demo that the documents name, of the micro model."""
    project = Project(folder)
    source = {"layout": "folder", "root": "results/demo/data"}
    project.config = folder / "micro.yaml"
    changes = {
        "datasets": {"demo": source | {"classes": ["woven_fabric"]}},
        "experiments": {"promptad": {"variant": "original"}},
    }
    project.configure(**changes, results="results/demo", shots=[4])
    project.snakemake(f"results/demo/{DEMO_RUN}/metrics.json")


def write_data(folder):
    config = yaml.safe_load((folder / "config/config.yaml").read_text())
    for dataset, name in ONE_CLASS.items():
        write_class(folder / "data" / dataset, name, size=8)
        config["datasets"][dataset]["classes"] = [name]
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    write_class(folder / "data/parts", "bolt")
    for name in CLASSES:
        write_class(folder / "results/demo/data", name, train=6, good=16)
    (folder / "results/demo/data/prompts.yaml").write_text("{}")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    tiny = {
        "datasets": {"mvtec": {"layout": "mvtec", "root": "data/mvtec"}},
        "backbones": {"tiny": {"model": "tiny.json", "pretrained": "random"}},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny))


@pytest.mark.parametrize("command", commands(*DOCUMENTS))
def test_a_documented_command_works(clone, command, request):
    for part, reason in SKIPPED.items():
        if part in command:
            pytest.skip(f"{part}: {reason}")
    for pattern, other in INSTEAD.items():
        command = re.sub(pattern, other, command, count=1)
    path = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1"}
    if "profiles/slurm" in command:
        environment["PYTHONPATH"] = request.getfixturevalue("plugins")
    run = call(command, clone, environment)
    assert run.returncode == 0, command + run.stdout + run.stderr


def call(command, folder, environment):
    """Run a command in a folder; in a shell where it needs more than its program."""
    program, *words = shlex.split(command)
    same_path = environment["PYTHONPATH"] == os.environ["PYTHONPATH"]
    if program in MODULES and ">" not in words and same_path:
        return forked.run(MODULES[program], folder, words, environment)
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_stand_in_blocks_that_are_tried(document):
    others = "".join(blocks(document, "", "text"))
    assert not re.search(r"^(\.venv/bin/)?(make|snakemake|fsad) ", others, re.M)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_named_within_the_text_exist(document):
    named = " ".join(re.findall(r"`([^`\n]+)`", (REPOSITORY / document).read_text()))
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = re.findall(r"^([a-z0-9-]+):", makefile, re.M)
    assert set(re.findall(r"\bmake ([a-z0-9-]+)", named)) <= set(targets)
    assert set(re.findall(r"\bfsad ([a-z0-9-]+)", named)) <= set(COMMANDS)


def test_the_chinese_readme_shows_commands_of_the_english_one():
    assert set(commands("README.zh-CN.md")) <= set(commands("README.md"))


def test_the_python_of_the_readme_runs(clone):
    (script,) = blocks("README.md", "python")
    shutil.copy(
        clone / "results/demo/data/woven_fabric/test/good/000.png",
        clone / "photograph.png",
    )
    subprocess.run([sys.executable, "-c", script], cwd=clone, check=True)
