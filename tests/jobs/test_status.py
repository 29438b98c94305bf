import pytest

from fsad.artifacts.paths import Run
from fsad.jobs import status
from fsad.jobs.status import Job, Planned, plain_jobs, report

HEAD = "s\th:m:s\tmax_rss\n"
NAMES = ("done", "stale", "missing", "unfinished", "failed")


def test_jobs_are_made_of_plain_records():
    records = [
        {"rule": "train", "outputs": ["a, b/metrics.json"], "log": ["a, b.log"]},
        {"rule": "all", "outputs": [], "log": []},
    ]
    train, everything = plain_jobs(records)
    assert train == Job("train", ["a, b/metrics.json"], "a, b.log")
    assert everything == Job("all", [], "")


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


def job(folder, *names, rule="train"):
    outputs = [str(folder / name) for name in names]
    return Job(rule, outputs, str(folder / f"{names[0]}.log"))


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_state_of_a_run_that_a_job_makes(folder, name):
    assert status.state(str(folder / name), job(folder, name)) == name


def test_a_run_that_no_job_makes_is_done(folder):
    assert status.state(str(folder / "done"), None) == "done"


def test_a_deleted_run_whose_job_succeeded_is_missing(folder):
    (folder / "missing.log").write_text("train: 100%\ndone\n")
    assert status.state(str(folder / "missing"), job(folder, "missing")) == "missing"


def test_a_job_without_a_log_is_missing(folder):
    assert status.state(str(folder / "new"), Job("train", [], "")) == "missing"


def test_a_traceback_is_a_failure(folder):
    (folder / "killed.log").write_text("Traceback (most recent call last):\n  ...\nOSE")
    assert status.state(str(folder / "killed"), job(folder, "killed")) == "failed"


@pytest.fixture
def planned(folder):
    """One run of each class, and features of which one file is to be made."""
    runs = {str(folder / n): Run("original", "own", n, "cls", 1, 111) for n in NAMES}
    features = {str(folder / "test.npz"): 3 * 10**9, str(folder / "s.npz"): 10**9}
    return Planned(runs, {"original": "promptad"}, features)


def reported(planned, folder, jobs):
    return report(planned, jobs, folder / "benchmarks").splitlines()


def test_a_report_counts_states(planned, folder):
    jobs = [job(folder, name) for name in NAMES[1:]]
    head, row, total, *_ = reported(planned, folder, jobs)
    assert head.split()[4:] == [*status.STATES, "spent", "left"]
    assert row.split()[:8] == ["own", "original", "5", *"11111"]
    assert total.split()[:7] == ["all", "5", *"11111"]


def test_the_runs_of_one_job_are_counted_apart(planned, folder):
    together = job(folder, "failed", "stale", "unfinished", rule="train_class")
    _, row, *_ = reported(planned, folder, [together])
    assert dict(zip(status.STATES, row.split()[3:8], strict=True)) == {
        **{"done": "2", "stale": "1", "missing": "0", "unfinished": "0"},
        "failed": "2",
    }


def test_other_jobs_and_features_are_counted(planned, folder):
    others = [job(folder, "test.npz", rule="embed"), Job("tables", ["a.csv"], "")]
    lines = reported(planned, folder, [job(folder, "missing"), *others])
    assert "Features to make: 3.00 GB." in lines
    assert lines[-1] == "Other jobs to run (images, features, tables): 2"


def test_an_empty_plan_has_a_report(folder):
    _, total, *_ = reported(Planned({}, {"original": "promptad"}, {}), folder, [])
    assert total.split()[:2] == ["all", "0"]


def benchmark(folder, path, seconds):
    path = folder / "benchmarks" / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEAD}{seconds}\t0:00:01\t10\n")


def test_the_time_left_follows_from_the_time_spent(planned, folder):
    benchmark(folder, "train/original/own/done/k1_s111_cls.tsv", 3600)
    benchmark(folder, "train/original/own/done/k1_s111_seg.tsv", 61)
    benchmark(folder, "train/original/other/done/k1_s111_cls.tsv", 1739)
    benchmark(folder, "embed/original/own/done.tsv", 999)
    lines = reported(planned, folder, [job(folder, "stale"), job(folder, "missing")])
    assert lines[1].split()[-2:] == ["1:01:01", "1:00:00"]
    assert "Left of promptad: 1:00:00" in lines


def test_a_job_of_several_runs_counts_as_so_many(planned, folder):
    runs = planned.runs | {
        str(folder / f"done{seed}"): Run("original", "own", "done", "cls", 1, seed)
        for seed in (112, 113, 114)
    }
    benchmark(folder, "train_class/original/own/done.tsv", 240)
    several = planned._replace(runs=runs)
    _, row, *_ = reported(several, folder, [job(folder, "missing")])
    assert row.split()[-2:] == ["0:04:00", "0:01:00"]


def test_an_experiment_without_finished_runs_takes_the_time_of_its_method(
    planned, folder
):
    runs = {
        str(folder / name): Run(name, "own", "nut", "cls", 1, 111)
        for name in ("original", "new", "other")
    }
    methods = {"original": "promptad", "new": "promptad", "other": "patchcore"}
    benchmark(folder, "train/original/own/nut/k1_s111_cls.tsv", 60)
    jobs = [job(folder, "new"), job(folder, "other")]
    lines = reported(Planned(runs, methods, {}), folder, jobs)
    assert [line.split()[-1] for line in lines[1:4]] == [
        "0:00:00",
        "0:01:00",
        "unknown",
    ]
    assert {"Left of promptad: 0:01:00", "Left of patchcore: unknown"} <= set(lines)


def test_without_a_finished_job_the_time_left_is_unknown(planned, folder):
    _, row, *_ = reported(planned, folder, [job(folder, "missing")])
    assert row.split()[-2:] == ["0:00:00", "unknown"]
    _, row, *_ = reported(planned, folder, [])
    assert row.split()[-1] == "0:00:00"


def test_failures_are_named(planned, folder):
    lines = reported(planned, folder, [job(folder, "failed")])
    log = folder / "failed.log"
    assert lines[-1] == f"failed: train, {log}: error: a.png: cannot be read"


def test_many_failures_are_counted(planned, folder):
    lines = reported(planned, folder, [job(folder, "failed")] * 30)
    assert lines[-1] == "and 10 more failed jobs"
