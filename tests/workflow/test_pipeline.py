"""The real Snakefile on a micro configuration, end to end."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from fsad.artifacts.files import read_record, write_record
from fsad.evaluation.metrics import METRICS
from fsad.reports.report import example_runs
from helpers import REPOSITORY, write_class
from project import BENCHMARK

COLUMNS = (
    "experiment,method,backbone,dataset,class,task,shots,seed,selection,metric,value"
)
RUN = "results/runs/original/own/bolt/k2/s111"
FILES = "model.npz", "scores.npz", "history.csv", "metrics.json"


def test_metrics_csv_holds_every_run(finished):
    path = finished.folder / "results/tables/metrics.csv"
    assert path.read_text().splitlines()[0] == COLUMNS
    table = pd.read_csv(path)
    runs = table[["class", "task", "shots"]].drop_duplicates()
    assert len(runs) == 2 * 2 * 2
    assert len(table) == 4 * 2 * 3 + 4 * 2 * 4
    assert table["value"].between(0, 100).all()


def test_wide_tables_have_a_row_per_class(finished):
    for task in ("cls", "seg"):
        table = pd.read_csv(finished.folder / f"results/tables/own_{task}.csv")
        assert list(table.columns[4:]) == ["k1", "k1_std", "k2", "k2_std"]
        assert set(table["class"]) == {"bolt", "metal_nut", "mean"}
        markdown = (finished.folder / f"results/tables/own_{task}.md").read_text()
        assert "RANDOM weights" in markdown


def test_evaluated_on_schedule(finished):
    for task, metric in (("cls", "image_auroc"), ("seg", "pixel_auroc")):
        history = pd.read_csv(finished.folder / RUN / task / "history.csv")
        assert list(history["epoch"]) == [1, 2, 3, 4]
        assert list(history.dropna()["epoch"]) == [3, 4]
        results = json.loads(
            (finished.folder / RUN / task / "metrics.json").read_text()
        )
        assert results["last"][metric] == pytest.approx(history[metric].iloc[-1])
        assert results["best"][metric] == pytest.approx(history[metric].max())


def test_every_array_file_carries_settings_and_no_pickle(finished):
    files = sorted((finished.folder / "results").rglob("*.npz"))
    # Of a class: images, masks, prompts, features of two sets, and of 4 runs two files.
    assert len(files) == 2 * (2 + 1 + 1 + 2 + 4 * 2)
    for path in files:
        with np.load(path, allow_pickle=False) as arrays:
            settings = json.loads(str(arrays["settings"]))
            assert all(arrays[name].dtype != object for name in arrays.files)
        assert settings["provenance"]["versions"]["torch"]
        assert {"stage", "code"} <= settings.keys()


def test_nothing_to_do_the_second_time(finished):
    assert "Nothing to be done" in finished.snakemake().stderr


def test_nothing_is_kept_for_pictures(finished):
    assert not list((finished.folder / "results").rglob("*.png"))


def test_by_hand_and_one_a_job_give_the_bytes_of_a_job_of_all(finished, copied):
    shutil.rmtree(copied.folder / "results/runs")
    copied.configure(runs_per_job="one")
    copied.snakemake(*(f"{RUN}/{task}/metrics.json" for task in METRICS))
    place = ["--dataset", "own", "--class", "bolt", "--shots", "2"]
    for task, (metric, *_) in METRICS.items():
        given = [*place, "--config", copied.config, "--out", f"out/{task}"]
        by_hand = copied.fsad("train", task, *given)
        record = read_record(copied.folder / f"out/{task}/metrics.json")
        value = record["last"][metric]
        assert f"{metric} {value:.2f} after the last epoch" in by_hand.stdout
        for name in FILES:
            expected = (finished.folder / RUN / task / name).read_bytes()
            for folder in (RUN, "out"):
                found = (copied.folder / folder / task / name).read_bytes()
                assert found == expected, name


def test_options_of_what_is_shown_train_nothing(finished):
    jobs = finished.planned("--config", "vis=true")
    assert jobs == {"draw_panels": 2, "all": 1, "total": 3}
    jobs = finished.planned("--config", "tables={decimals: 1, bold: false}")
    assert jobs == {"tables": 1, "all": 1, "total": 2}


def test_contents_decide_where_a_failed_job_has_left_a_file_of_before(copied):
    """Snakemake restores the file, but not its record of how that was made."""
    shutil.rmtree(copied.folder / ".snakemake")
    image = copied.folder / "data/bolt/test/good/000.png"
    image.write_bytes((copied.folder / "data/bolt/test/good/001.png").read_bytes())
    copied.configure(epochs=5, states=["broken {}"], precision="bfloat16")
    jobs = copied.planned()
    jobs = [jobs.get(rule, 0) for rule in ("prepare", "tokenize_prompts", "embed")]
    assert jobs == [1, 1, 2]
    copied.configure(epochs=5)
    assert copied.planned()["train_class"] == 2


def test_a_run_made_otherwise_than_planned_is_made_again(copied):
    path = copied.folder / RUN / "cls/metrics.json"
    before, record = path.read_bytes(), read_record(path)
    record["settings"]["options"]["epochs"] = 99
    write_record(path, record)
    copied.snakemake()
    assert path.read_bytes() == before


def test_a_job_of_all_runs_makes_only_those_that_are_missing(copied):
    copied.configure(seeds=[111, 7])
    runs = copied.folder / RUN.removesuffix("/k2/s111")
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("scores.npz")}
    jobs = copied.planned()
    expected = {"prepare": 2, "embed": 2, "train_class": 2, "tables": 1}
    assert jobs == expected | {"report_pages": 1, "all": 1, "total": 9}
    target = RUN.replace("s111", "s7/cls/metrics.json")
    copied.snakemake(target)
    after = {path: path.stat().st_mtime_ns for path in runs.rglob("scores.npz")}
    assert len(after) == 2 * len(before)
    assert before.items() <= after.items()
    assert "Nothing to be done" in copied.snakemake(target).stderr


def test_panels_show_image_mask_and_map(copied):
    copied.configure(vis=True)
    folder = f"{RUN}/seg/vis"
    copied.snakemake(folder)
    pictures = sorted(path.name for path in (copied.folder / folder).glob("*.png"))
    assert pictures[:3] == ["good_000.png", "good_001.png", "good_002.png"]
    assert len(pictures) == 3 + 2 * 2
    assert copied.planned(folder) == {}


def without_masks(folder):
    for mask in folder.rglob("ground_truth/*/*.png"):
        mask.unlink()


def test_a_class_without_masks_skips_seg_and_says_so(project):
    without_masks(write_class(project.folder / "data", "pin"))
    run = project.snakemake("--dry-run")
    assert "own/pin: no masks, seg is skipped" in run.stderr
    jobs = project.planned("--config", "vis=true")
    assert (jobs["train_class"], jobs["train_class_cls"]) == (2, 1)
    assert (jobs["draw_panels"], jobs["draw_panels_cls"]) == (2, 1)
    assert jobs["prepare_masks"] == 2
    assert project.planned("--config", "runs_per_job=one")["train"] == 2 * 4 + 2


def test_a_dry_run_leaves_nothing(project):
    project.snakemake("--dry-run")
    assert not (project.folder / "results").exists()


def test_a_job_needs_nothing_of_other_classes(project):
    shutil.rmtree(project.folder / "data/bolt/test")
    job = "prepare_masks:dataset=own,class_name=metal_nut"
    project.snakemake("--mode", "remote", "--target-jobs", job, "--nolock")
    assert (project.folder / "results/cache/own/metal_nut/masks_r32.npz").exists()


def test_full_benchmarks_are_planned(project):
    for dataset, names in BENCHMARK.items():
        for name in names.split():
            write_class(project.folder / dataset, name, size=8)
    project.config = REPOSITORY / "config/config.yaml"
    roots = "datasets={mvtec: {root: mvtec}, visa: {root: visa}}"
    jobs = project.planned("--config", roots)
    trained = sum(count for rule, count in jobs.items() if rule.startswith("train"))
    assert trained == 1134
    assert (jobs["prepare"], jobs["embed"]) == (27, 27 * 7)
    assert jobs["total"] <= 1400
    project.config = REPOSITORY / "config/methods.yaml"
    jobs = project.planned("--config", roots)
    assert jobs["train"] == 27 * 3 * 3 * 2  # of PromptAD; a job each class of others
    assert (jobs["train_class"], jobs["train_class_few"]) == (27, 27 * 4)


def test_the_report_shows_pixels_and_most_shots(finished):
    from fsad.artifacts.paths import parse_run

    metrics = (finished.folder / "results/runs").rglob("metrics.json")
    runs = {path.parent: parse_run(path.parent)[1] for path in sorted(metrics)}
    shown = example_runs(runs).values()
    assert {(run.task, run.shots) for run in shown} == {("seg", 2)}


@pytest.mark.parametrize("name", ["status", "verify"])
def test_former_targets_name_their_command(finished, name):
    run = finished.snakemake(name, check=False)
    assert run.returncode == 1
    assert f"error: use `fsad {name}`" in run.stderr


def test_other_rerun_triggers_are_refused(project):
    run = project.snakemake("--dry-run", "--rerun-triggers", "mtime", check=False)
    assert run.returncode == 1
    assert "--rerun-triggers: must have params" in run.stdout + run.stderr
