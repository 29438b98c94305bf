"""A user's mistake ends in one clear line and leaves nothing to be trusted.

Wrong options and files are tried on functions, in tests/planning and tests/data.
"""

import csv

import pytest
from PIL import Image

IMAGE = "data/bolt/test/hole/001.png"


def test_a_wrong_option_ends_planning_in_one_line(project):
    project.configure(epoch=3)
    run = project.snakemake("--dry-run", check=False)
    assert run.returncode == 1
    assert "config: epoch: unknown option; did you mean 'ep" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert not (project.folder / "results").exists()


def test_a_run_that_is_not_planned_is_refused(project):
    target = "results/runs/original/own/bolt/k3/s111/seg/metrics.json"
    project.configure(runs_per_job="one")
    run = project.snakemake("--dry-run", target, check=False)
    assert run.returncode == 1
    assert "k3/s111/seg: no run of this configuration" in run.stdout + run.stderr


def truncate(path):
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_failed_class_is_named_in_the_tables_until_it_is_mended(copied):
    """Its runs of before are there still, and must not be shown."""
    whole, image = copied.tables(), copied.folder / IMAGE
    original = image.read_bytes()
    truncate(image)
    run = copied.snakemake(check=False)
    assert run.returncode == 1
    assert f"error: {IMAGE}: cannot be read as an image" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert_failed(copied.tables(), 4)

    image.write_bytes(original)
    copied.snakemake()
    assert copied.tables() == whole
    assert "Nothing to be done" in copied.snakemake().stderr


def test_a_class_of_larger_images_goes_on_once_they_are_allowed(copied):
    image = copied.folder / IMAGE
    Image.open(image).resize((1001, 1000)).save(image)
    copied.configure(tasks=["cls"], max_megapixels=1)
    run = copied.snakemake(check=False)
    error = f"error: {IMAGE}: has 1001000 pixels; raise `max_megapixels`, or save"
    assert run.returncode == 1
    assert error in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert_failed(copied.tables(), 2)

    copied.configure(tasks=["cls"], max_megapixels=2)
    planned = copied.planned_by_class()
    assert planned["prepare", "bolt"] == 1
    assert "metal_nut" not in {name for _, name in planned}
    copied.snakemake()
    assert b"failed" not in copied.tables()["own_cls.md"]

    copied.configure(tasks=["cls"])
    assert "Nothing to be done" in copied.snakemake().stderr
    masks = "results/cache/own/bolt/masks_r32.npz"
    run = copied.snakemake(masks, "--config", "max_megapixels=1", check=False)
    assert error in run.stdout + run.stderr
    by_hand = ["train", "cls", "--config", "config.yaml", "--dataset", "own"]
    by_hand += ["--class", "bolt", "--out", "out", "--max-megapixels", "1"]
    assert error in copied.fsad(*by_hand, check=False).stderr


def assert_failed(tables, runs):
    """The tables name so many runs of bolt as failed, and the log, and have numbers of
    the others."""
    page = tables["own_cls.md"].decode()
    failed = f"{runs} runs failed, and are in no mean: {runs} of own/bolt. See "
    assert failed in page
    assert "results/logs/prepare/own/bolt.log" in page
    rows = list(csv.DictReader(tables["own_cls.csv"].decode().splitlines()))
    assert {row["k1"] for row in rows if row["class"] == "bolt"} == {"failed"}
    others = {row["k1"] for row in rows if row["class"] != "bolt"}
    assert all(0 <= float(value) <= 100 for value in others)
    assert b",bolt," not in tables["metrics.csv"]


WRONG_ARGUMENTS = {
    "unknown data set": (
        ["--dataset", "visa"],
        "--dataset: 'visa' is not in the",
    ),
    "unknown experiment": (
        ["--experiment", "x"],
        "--experiment: 'x' is not in the con",
    ),
    "unknown class": (["--class", "nut"], "data/nut: no such class folder"),
    "too many shots": (["--shots", "50"], "bolt: 50 shots asked for"),
    "missing config": (["--config", "no.yaml"], "no.yaml: no such file"),
    "unknown device": (["--device", "tpu"], "device: must be `cpu`, `cuda` or"),
    "missing GPU": (["--device", "cuda:63"], "device: cuda:63 asked for, torch sees"),
    "missing root": (["--root", "nowhere"], "nowhere: no such data folder"),
    "file as folder": (["--out", "config.yaml"], "--out: config.yaml is a file; name"),
    "finished run": (["--out", "run"], "--out: run holds a run already"),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_a_run_by_hand_names_the_wrong_argument(project, monkeypatch, capsys, case):
    import sys

    from fsad import cli

    wrong, message = WRONG_ARGUMENTS[case]
    (project.folder / "run").mkdir()
    (project.folder / "run/metrics.json").write_text("{}")
    right = ["--dataset", "own", "--class", "bolt", "--config", "config.yaml"]
    words = ["fsad", "train", "cls", *right, "--out", "out", *wrong]
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (project.folder / "out").exists()
