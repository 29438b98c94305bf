from pathlib import Path

import pytest

from fsad.jobs import status
from fsad.jobs.status import Job, planned_jobs, report

DRY_RUN = """Building DAG of jobs...
[Tue Nov 24 10:00:00 2026] Group job train_own_a (jobs in lexicogr. order):

    [Tue Nov 24 10:00:00 2026]
    rule train_cls:
        input: out/cache/a, b/prompts.npz
        output: out/runs/a, b/model.npz, out/runs/a, b/metrics.json
        log: out/logs/a, b.log
        reason: Missing output files: out/runs/a, b/metrics.json
        resources: tmpdir=<TBD>
[Tue Nov 24 10:00:00 2026]
localrule all:
    input: out/tables/metrics.csv
    reason: Rules with neither input nor output files are always executed.
Job stats:
"""
KEYS = ("original", "own"), ("cls", 1, 111)
BENCHMARK = "s\th:m:s\tmax_rss\n{}\t0:00:01\t10\n"


def test_jobs_of_a_dry_run():
    train, everything = planned_jobs(DRY_RUN, "out")
    outputs = ["out/runs/a, b/model.npz", "out/runs/a, b/metrics.json"]
    assert train == Job("train_cls", outputs, Path("out/logs/a, b.log"))
    assert everything.rule == "all"


@pytest.fixture
def folder(tmp_path):
    """Runs of five classes, one in each state."""
    for name in ("done", "stale"):
        (tmp_path / name).touch()
    logs = {
        "stale": "done\n",
        "failed": "train: 10%\nerror: a.png: cannot be read\n",
        "unfinished": "train: 10%\rtrain: 20%",
    }
    for name, text in logs.items():
        (tmp_path / f"{name}.log").write_text(text)
    return tmp_path


def job(folder, name, rule="train_cls"):
    return Job(rule, [str(folder / name)], folder / f"{name}.log")


@pytest.mark.parametrize("name", ["stale", "missing", "unfinished", "failed"])
def test_the_state_of_a_run_that_is_planned(folder, name):
    assert status.state(str(folder / name), job(folder, name)) == name


def test_a_run_that_is_not_planned_is_done(folder):
    assert status.state(str(folder / "done"), None) == "done"


def test_a_deleted_run_whose_job_ended_well_is_missing(folder):
    (folder / "missing.log").write_text("train: 100%\ndone\n")
    assert status.state(str(folder / "missing"), job(folder, "missing")) == "missing"


def test_a_traceback_is_a_failure(folder):
    (folder / "killed.log").write_text("Traceback (most recent call last):\n  ...\nOSE")
    assert status.state(str(folder / "killed"), job(folder, "killed")) == "failed"


def reported(folder, planned, rule="train_cls"):
    names = "done", "stale", "missing", "unfinished", "failed"
    runs = {str(folder / n): (*KEYS[0], n, *KEYS[1]) for n in names}
    jobs = [job(folder, name, rule) for name in planned]
    return report(runs, jobs, folder / "benchmarks").splitlines()


def benchmark(folder, path, seconds):
    path = folder / "benchmarks" / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BENCHMARK.format(seconds))


def test_a_report_counts_states(folder):
    planned = ["stale", "missing", "unfinished", "failed"]
    head, row, total, *_ = reported(folder, planned)
    assert head.split()[4:] == [*status.STATES, "spent", "left"]
    assert row.split()[:8] == ["own", "original", "5", *"11111"]
    assert total.split()[:7] == ["all", "5", *"11111"]


def test_what_is_left_follows_from_what_was_spent(folder):
    benchmark(folder, "train_cls/original/own/done/k1_s111.tsv", 3600)
    benchmark(folder, "train_cls/original/other/done/k1_s111.tsv", 1800)
    benchmark(folder, "train_seg/original/own/done/k1_s111.tsv", 61)
    _, row, *_ = reported(folder, ["stale", "missing"])
    assert row.split()[-2:] == ["1:01:01", "1:30:00"]


def test_without_a_finished_job_the_time_left_is_unknown(folder):
    _, row, *_ = reported(folder, ["missing"])
    assert row.split()[-2:] == ["0:00:00", "unknown"]
    _, row, *_ = reported(folder, [])
    assert row.split()[-1] == "0:00:00"


def test_failures_are_told(folder):
    lines = reported(folder, ["failed"])
    log = folder / "failed.log"
    assert lines[-1] == f"failed: train_cls, {log}: error: a.png: cannot be read"


def test_many_failures_are_counted(folder):
    lines = reported(folder, ["failed"] * 30)
    assert lines[-1] == "and 10 more failed jobs"
