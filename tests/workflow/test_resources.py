"""Cores, GPUs and what is seen of them, with the real Snakefile."""

import pandas as pd

SLOTS = ("--config", "device=cuda", "gpus=[0,1]", "jobs_per_gpu=3")


def test_jobs_that_use_the_gpu_ask_for_one(project):
    run = project.snakemake("--dry-run", *SLOTS)
    rules = run.stdout.split("\nrule ")[1:]
    asking = {rule.split(":")[0] for rule in rules if "gpu=1" in rule}
    assert asking == {"embed", "train_class"}


def test_no_more_of_them_run_at_once_than_there_are_slots(project):
    run = project.snakemake("results/cache/own/bolt/masks_r32.npz", *SLOTS)
    assert 'gpu=Resource("gpu", 6)' in run.stderr


def test_on_a_cpu_no_job_asks_for_a_gpu(project):
    assert "gpu=1" not in project.snakemake("--dry-run").stdout


def test_gpus_need_their_device(project):
    run = project.snakemake("--dry-run", "--config", "gpus=[0]", check=False)
    assert "config: gpus: needs `device: cuda`, not cpu" in run.stdout


def test_no_job_uses_more_than_its_threads(project):
    # Epochs enough for each job to be seen by name.
    project.configure(monitor=True, shots=[2], epochs=300)
    project.snakemake()
    monitored = project.folder / "results/monitor"
    jobs = pd.read_csv(monitored / "jobs.csv", index_col="job")
    trained = jobs[jobs.index.str.startswith("train_class/")]
    assert len(trained) == 2
    assert (trained["mean_cores"] <= 1.2).all()
    assert jobs.loc["all", "mean_cores"] <= 2.3
    assert "<svg" in (monitored / "timeline.svg").read_text()
