"""What a change makes run again: dry runs of the real Snakefile, by rule and class."""

import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from helpers import REPOSITORY
from project import Project

EXPERIMENTS = {
    "original": {"variant": "original"},
    "single": {"variant": "vv_residual"},
}
# Drawn of bolt: 001, then 000. Of metal_nut: 002, then 003, or 001 if there is a 004.
TRAIN = "data/{}/train/good/{}.png"
IMAGE = "data/bolt/test/hole/001.png"
MASK = "data/bolt/ground_truth/hole/001_mask.png"
WORDS = {"bolt": {"text": "bolt"}, "metal_nut": {"text": "nut"}}
OWN = {"layout": "folder", "root": "data", "prompts": "words.yaml"}
OPTIONS = {"datasets": {"own": OWN}, "experiments": EXPERIMENTS}
ONE = OPTIONS | {"runs_per_job": "one"}


CONSTANT = """from fsad.methods.base import Prediction, Step


def create(task, options, text):
    return None
"""
CONSTANT_SCHEMA = "type: object\nadditionalProperties: false\nproperties: {}\n"
CONSTANT_ENTRY = """
METHODS["constant"] = Entry(
    module="fsad.methods.constant",
    schema="methods/constant",
    readout=lambda options, size: variant_readout(
        parse_variant("original"), View("square", size)
    ),
    flat=lambda options, run, backbone: dict(options),
    reads_text=False,
    trains=False,
)
"""


class Changing(Project):
    """A project with a workflow of its own; nothing but its data is real."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.repository = folder / "repository"

    def write_words(self, **changes) -> None:
        """Write the prompts file."""
        (self.folder / "words.yaml").write_text(yaml.safe_dump(WORDS | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project of two classes and two experiments with nothing left to do."""
    project = Changing(tmp_path_factory.mktemp("changes") / "finished")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("workflow", "profiles", "config", "envs"):
        shutil.copytree(REPOSITORY / name, project.repository / name, ignore=ignored)
    shutil.copy(REPOSITORY / "Snakefile", project.repository)
    project.write().write_words()
    project.configure(**OPTIONS)
    project.snakemake()  # all runs of a class in one job, which is quicker
    project.configure(**ONE)
    project.snakemake("--touch", "--forceall")
    return project


@pytest.fixture
def changing(finished):
    """The finished project, to be changed; as it was again for the next test."""
    saved = finished.folder.with_name("saved")
    shutil.copytree(finished.folder, saved)
    yield finished
    shutil.rmtree(finished.folder)
    saved.rename(finished.folder)


def edited(path):
    """Add a byte to a file of the project."""

    def change(project):
        file = project.folder / path
        file.write_bytes(file.read_bytes() + b" ")

    return change


def touch_all(project):
    """Make every file newer than all that is made of it."""
    folders = "tables", "report", "runs", "features", "cache"
    for age, name in enumerate([*(f"results/{f}" for f in folders), "data"]):
        for path in (project.folder / name).rglob("*"):
            os.utime(path, (time.time(), time.time() + 10 * age))


def edit_and_age(project):
    """Edit an image, and date it before everything else."""
    edited(IMAGE)(project)
    os.utime(project.folder / IMAGE, (1e9, 1e9))


def edit_and_hide(project):
    """Edit an image in place and leave its size and time as they were."""
    path = project.folder / IMAGE
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def removed(path):
    return lambda project: (project.folder / path).unlink()


def copied(path, new):
    """Add a copy of an image, as old as the image."""
    return lambda project: shutil.copy2(project.folder / path, project.folder / new)


def move_data(project):
    (project.folder / "data").rename(project.folder / "moved")
    configured(datasets={"own": OWN | {"root": "moved"}})(project)


def emptied(project):
    """Delete what was cached, to free the disk."""
    for name in ("cache", "features"):
        shutil.rmtree(project.folder / "results" / name)


def recoded(module):
    """Add code to a module of the library."""

    def change(project):
        path = project.repository / "workflow/fsad" / module
        path.write_text(path.read_text() + "ADDED = 1\n")

    return change


def reworded(project):
    """Change the docstrings of a module of the library, and add a comment."""
    path = project.repository / "workflow/fsad/artifacts/files.py"
    path.write_text(path.read_text().replace('"""Write', '"""Put') + "# a comment\n")


def configured(**changes):
    return lambda project: project.configure(**ONE | changes)


def experiment(**changes):
    changed = EXPERIMENTS["single"] | changes
    return configured(experiments=EXPERIMENTS | {"single": changed})


def override(**changes):
    return configured(overrides={"own": {"bolt": changes}})


def edit_and_override(project):
    """Edit a support image, and change an option of all runs of its class."""
    override(epochs=5)(project)
    edited(TRAIN.format("bolt", "000"))(project)


def edit_named_support(project):
    """Name the support images of a class, those drawn, and edit one of them."""
    override(support=["001.png", "000.png"])(project)
    edited(TRAIN.format("bolt", "000"))(project)


def add_method(project):
    """Register a method that no experiment uses."""
    fsad = project.repository / "workflow/fsad"
    (fsad / "methods/constant.py").write_text(CONSTANT)
    (fsad / "schemas/methods/constant.schema.yaml").write_text(CONSTANT_SCHEMA)
    registry = fsad / "methods/registry.py"
    registry.write_text(registry.read_text() + CONSTANT_ENTRY)


def use_method(project):
    """Add an experiment of another method; its features are there already."""
    add_method(project)
    added = {"constant": {"method": "constant"}}
    changed = {"runs_per_job": "auto", "experiments": EXPERIMENTS | added}
    project.configure(**ONE | changed)


def jobs(*classes, **counts):
    """So many jobs of each rule for each of these classes, and the tables."""
    found = {(rule, name): n for name in classes for rule, n in counts.items()}
    return found | {("tables", None): 1, ("all", None): 1}


# For each class: 2 experiments x 2 numbers of shots x 2 tasks, 1 readout each.
TRAINED = {"train": 8}
HALF = {"train": 4}  # of one experiment, task or number of shots
EMBEDDED = {"embed": 2}
NEW_TEST_SET = {"prepare": 1, "prepare_masks": 1} | EMBEDDED | TRAINED
NEW_2_SHOT = {"prepare": 1} | EMBEDDED | HALF
NEW_SUPPORT = {"prepare": 1} | EMBEDDED | TRAINED
NEW_VARIANT = {"embed": 1} | HALF
TOKENIZED = {("tokenize_prompts", None): 1}
ONE_RUN = "results/runs/single/own/bolt/k2/s111/cls/metrics.json"

CHANGES = {
    "nothing": (lambda project: None, {}),
    "files touched": (touch_all, {}),
    "test image replaced": (edited(IMAGE), jobs("bolt", **NEW_TEST_SET)),
    "... and dated back": (edit_and_age, jobs("bolt", **NEW_TEST_SET)),
    "... and of the same size and time": (
        edit_and_hide,
        jobs("bolt", **NEW_TEST_SET),
    ),
    "test image added": (
        copied("data/bolt/test/good/000.png", "data/bolt/test/good/new.png"),
        jobs("bolt", **NEW_TEST_SET),
    ),
    "test image removed": (
        removed("data/bolt/test/good/000.png"),
        jobs("bolt", **NEW_TEST_SET),
    ),
    "mask replaced": (edited(MASK), jobs("bolt", prepare_masks=1, **HALF)),
    "support image of 1 and 2 shots replaced": (
        edited(TRAIN.format("bolt", "001")),
        jobs("bolt", **NEW_SUPPORT),
    ),
    "support image of 2 shots replaced": (
        edited(TRAIN.format("bolt", "000")),
        jobs("bolt", **NEW_2_SHOT),
    ),
    "... and an option of its class changed": (
        edit_and_override,
        jobs("bolt", **NEW_SUPPORT),
    ),
    "training image replaced that no run draws": (
        edited(TRAIN.format("bolt", "003")),
        {},
    ),
    "training image added that changes the 2-shot draw": (
        copied(TRAIN.format("metal_nut", "003"), TRAIN.format("metal_nut", "004")),
        jobs("metal_nut", **NEW_2_SHOT),
    ),
    "training image removed that changes both draws": (
        removed(TRAIN.format("metal_nut", "001")),
        jobs("metal_nut", **NEW_SUPPORT),
    ),
    "training image removed that changes no draw": (
        removed(TRAIN.format("bolt", "002")),
        {},
    ),
    "data moved": (move_data, {}),
    "words of a class": (
        lambda project: project.write_words(bolt={"text": "screw bolt"}),
        jobs("bolt", **TRAINED) | TOKENIZED,
    ),
    "states of all classes": (
        configured(states=["broken {}"]),
        jobs("bolt", "metal_nut", **TRAINED) | TOKENIZED,
    ),
    "option of a class": (
        override(training={"lr": 0.1}),
        jobs("bolt", **TRAINED),
    ),
    "support of a class": (
        override(support=["003.png", "000.png"]),
        jobs("bolt", **NEW_SUPPORT),
    ),
    "support of a class, as drawn": (override(support=["001.png", "000.png"]), {}),
    "image replaced that the support of a class names": (
        edit_named_support,
        jobs("bolt", **NEW_2_SHOT),
    ),
    "option of an experiment": (
        experiment(epochs=5),
        jobs("bolt", "metal_nut", **HALF),
    ),
    "variant of an experiment": (
        experiment(variant="kk_residual"),
        jobs("bolt", "metal_nut", **NEW_VARIANT),
    ),
    "fit of an experiment": (
        experiment(fit="edge"),
        jobs("bolt", "metal_nut", prepare=1, **NEW_VARIANT),
    ),
    "resolution": (
        configured(resolution=64),
        jobs("bolt", "metal_nut", prepare_masks=1, **TRAINED),
    ),
    "seed added": (
        configured(seeds=[111, 7]),
        jobs("bolt", "metal_nut", **NEW_SUPPORT),
    ),
    "number of shots added": (
        configured(shots=[1, 2, 4]),
        jobs("bolt", "metal_nut", prepare=1, **EMBEDDED, **HALF),
    ),
    "class left out": (
        configured(datasets={"own": OWN | {"classes": ["bolt"]}}),
        jobs(),
    ),
    "decimals of the tables": (configured(tables={"decimals": 1}), jobs()),
    "run deleted": (removed(ONE_RUN), jobs("bolt", train=1)),
    "file of a run deleted that no rule names": (
        removed(ONE_RUN.replace("metrics.json", "scores.npz")),
        jobs("bolt", train=1),
    ),
    "features kept no longer": (configured(keep_features=False), {}),
    "cache deleted": (emptied, {}),
    "code of the tables": (recoded("reports/pages.py"), jobs()),
    "code of the method": (
        recoded("methods/promptad/losses.py"),
        jobs("bolt", "metal_nut", **TRAINED),
    ),
    "code of the features": (
        recoded("backbones/embed.py"),
        jobs("bolt", "metal_nut", **EMBEDDED | TRAINED),
    ),
    "code of another method": (add_method, {}),
    "runs of another method": (use_method, jobs("bolt", "metal_nut", train_class=1)),
    # A page of the report shows some; the pages themselves are not counted here.
    "code of the panels": (recoded("reports/panels.py"), {("all", None): 1}),
    "comments and docstrings": (reworded, {}),
}


def planned_without_pages(project):
    """Jobs by rule and class, but for those of the report."""
    planned = project.planned_by_class()
    pages = [key for key in planned if key[0].startswith("report_")]
    return {key: planned[key] for key in planned.keys() - pages}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_runs_again_what_depends_on_it(changing, change):
    apply, expected = CHANGES[change]
    apply(changing)
    assert planned_without_pages(changing) == expected


def test_methods_leave_the_runs_of_others_alone(changing):
    """A new experiment of another method, and then an edit of that method."""
    added = {"memory": {"method": "patchcore"}}
    configured(runs_per_job="auto", experiments=EXPERIMENTS | added)(changing)
    expected = jobs("bolt", "metal_nut", embed=1, train_class=1)
    assert planned_without_pages(changing) == expected
    changing.snakemake()
    assert planned_without_pages(changing) == {}
    recoded("methods/patchcore.py")(changing)
    expected = jobs("bolt", "metal_nut", train_class=1)
    assert planned_without_pages(changing) == expected


def test_the_status_is_that_of_a_dry_run(changing):
    runs = changing.folder / "results/runs/single/own/bolt/k2/s111"
    for task, text in (("cls", "error: out of memory\n"), ("seg", "train: 10%")):
        (runs / task / "metrics.json").unlink()
        log = f"results/logs/train/single/own/bolt/k2_s111_{task}.log"
        path = changing.folder / log
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (changing.folder / ONE_RUN.replace("k2", "k1")).unlink()
    override = {"own": {"metal_nut": {"training": {"lr": 0.1}}}}
    changing.configure(**ONE, overrides=override)
    planned = changing.planned_by_class()
    place = "--snakefile", changing.repository / "Snakefile"
    found = changing.fsad("status", "--configfile", changing.config, *place)
    lines = found.stdout.splitlines()
    rows = {line.split()[1]: line.split() for line in lines if line.startswith("own ")}
    # runs, done, stale, missing, unfinished, failed
    assert rows["original"][2:8] == [*"844000"]
    assert rows["single"][2:8] == [*"814111"]
    train = sum(n for (rule, _), n in planned.items() if rule.startswith("train"))
    assert train == 4 + 4 + 3
    assert [line for line in lines if line.startswith("failed: ")] == [
        "failed: train, results/logs/train/single/own/bolt/k2_s111_cls.log: "
        "error: out of memory"
    ]
