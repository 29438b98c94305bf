"""The real Snakefile on a micro configuration, end to end."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fsad.artifacts.files import read_record
from fsad.evaluation.metrics import METRICS
from helpers import REPOSITORY, write_class

REPOSITORY_CONFIG = REPOSITORY / "config"
COLUMNS = "experiment,dataset,class,task,shots,seed,selection,metric,value"
PAGES = "overview", "history", "scores", "examples", "records"
RUN = "results/runs/original/own/bolt/k2/s111"


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
    assert len(files) == 2 * (1 + 1 + 2 + 1) + 2 * (1 + 2) + 8 * 2
    for path in files:
        with np.load(path, allow_pickle=False) as arrays:
            settings = json.loads(str(arrays["settings"]))
            assert all(arrays[name].dtype != object for name in arrays.files)
        assert settings["provenance"]["versions"]["torch"]
        assert "commit" in settings["provenance"]


def test_nothing_to_do_the_second_time(finished):
    assert "Nothing to be done" in finished.snakemake().stderr


def test_nothing_is_kept_for_pictures(finished):
    assert not list((finished.folder / "results").rglob("*.png"))


def test_by_hand_gives_the_bytes_of_the_pipeline(finished, tmp_path):
    for task in ("cls", "seg"):
        out = tmp_path / task
        place = ["--dataset", "own", "--class", "bolt", "--shots", "2"]
        told = finished.fsad(
            "train", task, *place, "--config", finished.config, "--out", out
        )
        found = read_record(out / "metrics.json")["last"][METRICS[task][0]]
        assert f"{METRICS[task][0]} {found:.2f} after the last epoch" in told.stdout
        for name in ("model.npz", "scores.npz", "history.csv", "metrics.json"):
            ours = (finished.folder / RUN / task / name).read_bytes()
            assert (out / name).read_bytes() == ours, name


def test_pictures_need_no_new_training(finished):
    jobs = finished.planned("--config", "vis=true")
    assert jobs == {"draw_panels": 8, "all": 1, "total": 9}


def test_table_options_concern_the_tables_alone(finished):
    jobs = finished.planned("--config", "tables={decimals: 1, bold: false}")
    assert jobs == {"tables": 1, "all": 1, "total": 2}


def test_one_changed_option_retrains_what_it_concerns(finished):
    override = "overrides={own: {bolt: {training: {lr: 0.1}}}}"
    jobs = finished.planned("--config", override)
    gathered = ["tables", *(f"report_{page}" for page in PAGES), "all"]
    trainings = {"train_cls": 2, "train_seg": 2}
    assert jobs == trainings | dict.fromkeys(gathered, 1) | {"total": 11}


def test_panels_show_image_mask_and_map(project):
    project.configure(vis=True, shots=[1], tasks=["seg"])
    folder = "results/runs/original/own/bolt/k1/s111/seg/vis"
    project.snakemake(folder)
    pictures = sorted(path.name for path in (project.folder / folder).glob("*.png"))
    assert pictures[:3] == ["good_000.png", "good_001.png", "good_002.png"]
    assert len(pictures) == 3 + 2 * 2
    picture = np.asarray(Image.open(project.folder / folder / "hole_000.png"))
    assert picture.shape == (32, 96, 3)
    mask = picture[:, 32:64]
    assert set(np.unique(mask)) == {0, 255}


def test_a_changed_image_concerns_its_class_alone(project):
    project.configure(tasks=["cls"], shots=[1])
    project.snakemake()
    image = project.folder / "data/bolt/test/good/000.png"
    os.utime(image)
    assert project.planned() == {}
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(image)
    jobs = project.planned()
    stages = "preprocess_test embed_test embed_support train_cls tables all"
    stages = [*stages.split(), *(f"report_{page}" for page in PAGES)]
    assert jobs == dict.fromkeys(stages, 1) | {"total": 11}


def test_what_is_made_anew_and_the_same_trains_nothing_again(project):
    project.configure(tasks=["cls"], shots=[1])
    run = "results/runs/original/own/bolt/k1/s111/cls/vis"
    project.snakemake(run)
    anew = "--forcerun", "preprocess_test", "backbone", "--until", "embed_support"
    assert "Finished" in project.snakemake(run, *anew).stderr
    assert project.planned(run) == {}


def test_a_class_without_masks_skips_seg_and_says_so(project):
    folder = write_class(project.folder / "data", "pin")
    for mask in (folder / "ground_truth").rglob("*.png"):
        mask.unlink()
    run = project.snakemake("--dry-run")
    assert "own/pin: no masks, seg is skipped" in run.stderr
    jobs = project.planned()
    assert (jobs["train_cls"], jobs["train_seg"]) == (6, 4)


def test_without_any_masks_cls_alone_is_trained(project):
    for mask in (project.folder / "data").rglob("ground_truth/*/*.png"):
        mask.unlink()
    jobs = project.planned("--config", "train_together=true")
    assert jobs["train_together_cls"] == 2
    assert "train_together" not in jobs
    run = project.snakemake("--dry-run", "--config", "tasks=[seg]", check=False)
    assert "config: tasks: seg alone, and no class has masks for it" in run.stdout


def test_a_job_needs_nothing_of_other_classes(project):
    shutil.rmtree(project.folder / "data/bolt/test/good")
    job = "preprocess_masks:dataset=own,class_name=metal_nut"
    project.snakemake("--mode", "remote", "--target-jobs", job, "--nolock")
    assert (project.folder / "results/cache/own/metal_nut/masks_r32.npz").exists()


BENCHMARK = {
    "mvtec": (
        "bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile "
        "toothbrush transistor wood zipper"
    ),
    "visa": (
        "candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 "
        "pcb4 pipe_fryum"
    ),
}


def test_full_benchmark_plans_1134_trainings(project):
    for dataset, names in BENCHMARK.items():
        for name in names.split():
            write_class(project.folder / dataset, name, size=8)
    (project.folder / "config").symlink_to(REPOSITORY_CONFIG)
    project.config = REPOSITORY_CONFIG / "config.yaml"
    roots = "datasets={mvtec: {root: mvtec}, visa: {root: visa}}"
    jobs = project.planned("--config", roots)
    assert (jobs["train_cls"], jobs["train_seg"]) == (567, 567)
    assert (jobs["preprocess_test"], jobs["embed_test"]) == (27, 27 * 7)


def test_training_together_gives_the_same_figures(finished, project):
    folder = write_class(project.folder / "data", "pin")
    for mask in (folder / "ground_truth").rglob("*.png"):
        mask.unlink()
    project.configure(train_together=True)
    jobs = project.planned()
    assert (jobs["train_together"], jobs["train_together_cls"]) == (2, 1)
    project.snakemake()
    assert "Nothing to be done" in project.snakemake().stderr
    ours, alone = (
        long_table(p.folder).drop("pin", errors="ignore") for p in (project, finished)
    )
    assert ours.index.equals(alone.index)
    assert np.allclose(ours, alone, rtol=0, atol=1e-6)


def long_table(folder):
    """metrics.csv as values by class and whatever else tells them apart."""
    table = pd.read_csv(folder / "results/tables/metrics.csv")
    keys = [name for name in table if name != "value"]
    return table.set_index(["class", *(k for k in keys if k != "class")])["value"]
