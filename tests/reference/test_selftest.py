"""The checks of the self-test, each on stand-ins: no pipeline runs here."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fsad.artifacts.files import write_npz, write_record
from fsad.artifacts.paths import Run
from fsad.data.views import View
from fsad.errors import UserError
from fsad.planning.options import complete
from fsad.reference import selftest
from fsad.reference.selftest import Check, Cost, Subject
from helpers import TINY, write_class

SIZE = 24  # pixels of an image; no array of a run has so many rows or columns


@pytest.fixture
def subject(tmp_path):
    """A class with finished runs of both tasks, AUROC 80."""
    runs = {task: Run("original", "own", "nut", task, 1, 5) for task in ("cls", "seg")}
    record = {"options": {"epochs": 7, "eval_every": 3}}
    config = {"datasets": {}, "threads": 9, "results": "elsewhere"}
    readout = SimpleNamespace(view=View("square", SIZE))
    known = {"run": lambda run: record, "config": config}
    known |= {"readout": lambda *key: readout, "folder": lambda name: "tiny"}
    plan = SimpleNamespace(**known)
    subject = Subject(plan, runs, tmp_path / "verify", "Snakefile")
    for task, auroc in (("cls", "image_auroc"), ("seg", "pixel_auroc")):
        write_run(selftest.run_folder(subject, task), auroc)
    return subject


def write_run(folder, auroc):
    values = {"epoch": 7, auroc: 80.0}
    write_record(folder / "metrics.json", {"last": values, "best": values})
    table = ["epoch", *range(1, 8)], [auroc, "", "", 70, "", "", 75, 80]
    lines = (f"{epoch},{value}\n" for epoch, value in zip(*table, strict=True))
    (folder / "history.csv").write_text("".join(lines))
    maps = np.random.default_rng(0).random((3, 5, 5), np.float32)
    write_npz(folder / "scores.npz", {"last_maps": maps, "labels": np.zeros(3)}, {})


@pytest.fixture
def calls(monkeypatch):
    """Arguments of the calls of Snakemake, which print `text`."""
    calls = SimpleNamespace(arguments=[], text="")

    def snakemake(subject, threads, *arguments):
        calls.arguments.append(arguments)
        return calls.text

    monkeypatch.setattr(selftest, "snakemake", snakemake)
    return calls


def jobs(**seconds):
    """Records of the monitor, of jobs by their rule."""
    names = [f"{rule}/original/own/nut" for rule in seconds]
    columns = {"seconds": list(seconds.values()), "mean_cores": [1.5] * len(names)}
    return pd.DataFrame(columns, index=pd.Index(names, name="job"))


@pytest.mark.parametrize(("threads", "passed"), [(2, True), (1, False)])
def test_cores(threads, passed):
    check = selftest.check_cores(threads, jobs(train=3, embed=2))
    assert (check.found, check.passed) == ("1.50", passed)


DRY_RUN = """
rule embed:
    output: a.npz
    threads: 1

rule train:
    input: a.npz
    output: metrics.json
    threads: {threads}
    resources: tmpdir=/tmp
"""


@pytest.mark.parametrize(("threads", "jobs"), [(2, 20), (4, 10)])
def test_jobs_at_once(subject, calls, threads, jobs):
    calls.text = DRY_RUN.format(threads=threads)
    check = selftest.check_at_once(subject)
    assert check == (check.promise, str(jobs), jobs == 20)
    assert calls.arguments == [("--cores", "40", "--dry-run", "--forceall")]


def test_no_jobs_are_not_enough_at_once(subject, calls):
    assert not selftest.check_at_once(subject).passed


def test_the_schedule(subject):
    check = selftest.check_schedule(subject)
    assert check == ("evaluated after epochs 3, 6, 7 alone", "3, 6, 7", True)
    history = selftest.run_folder(subject, "cls") / "history.csv"
    history.write_text(history.read_text().replace("4,\n", "4,50\n"))
    assert selftest.check_schedule(subject)[1:] == ("3, 4, 6, 7", False)


@pytest.mark.parametrize(("seconds", "passed"), [(35, True), (49, False)])
def test_seconds_of_an_epoch(subject, seconds, passed):
    check = selftest.check_epoch(subject, jobs(train=seconds, embed=1000))
    assert check.passed == passed
    assert check.found == f"{seconds / 7:.2f} s, of {seconds} s for 7"


def test_a_hundred_epochs(subject, monkeypatch):
    def by_hand(subject, task, out, **options):
        write_record(out / "metrics.json", {"settings": {"options": options | left}})

    monkeypatch.setattr(selftest, "by_hand", by_hand)
    left = {"lr": 0.1}
    assert selftest.check_long(subject).passed
    left = {"epochs": 7}  # another number of epochs than was asked for
    assert not selftest.check_long(subject).passed


@pytest.mark.parametrize(("other", "passed"), [(80.9, True), (78.9, False)])
def test_auroc_of_the_published_way(subject, other, passed):
    check = selftest.check_auroc(subject, "seg", other)
    assert check[1:] == (f"80.00, published {other:.2f}", passed)


def test_the_cost_of_a_call():
    command = [sys.executable, "-c", "sum(range(3 * 10**6))"]
    text, cost = selftest.measured(selftest.run_command, command)
    assert text == ""
    assert cost.seconds > 0
    assert cost.cpu > 0


def test_costs():
    faster, saves = selftest.check_costs(Cost(2, 8), Cost(10, 4))
    assert faster[1:] == ("5.0 times: 2 s, published 10 s", True)
    assert saves[1:] == ("-100 %: 8 s of CPU, published 4 s", False)


def test_no_images_are_kept(subject):
    assert selftest.check_nothing_kept(subject).passed
    folder = selftest.run_folder(subject, "cls")
    (folder / "vis").mkdir()
    (folder / "vis/000.png").touch()
    check = selftest.check_nothing_kept(subject)
    assert check[1:] == ("1 pictures, 0 arrays of images", False)


@pytest.mark.parametrize("shape", [(3, SIZE, SIZE), (1, 2, 2, 3)])
def test_no_arrays_of_images_are_kept(subject, shape):
    path = selftest.run_folder(subject, "seg") / "scores.npz"
    write_npz(path, {"images": np.zeros(shape)}, {})
    check = selftest.check_nothing_kept(subject)
    assert check[1:] == ("0 pictures, 1 arrays of images", False)


def test_maps(subject, monkeypatch):
    assert selftest.check_maps(subject).passed
    full_maps = selftest.full_maps
    monkeypatch.setattr(selftest, "full_maps", lambda *x: full_maps(*x) * 1.001)
    assert not selftest.check_maps(subject).passed


def test_the_cache(subject, calls):
    folder = subject.folder / "threads_2/cache/own/nut"
    folder.mkdir(parents=True)
    (folder / "test_px24.npz").touch()
    assert not selftest.check_cache(subject).passed
    calls.text = "Nothing to be done (all requested files are present)."
    assert selftest.check_cache(subject).passed
    (folder / "test_px48.npz").touch()
    check = selftest.check_cache(subject)
    assert check[1:] == ("2 cached test set, nothing to do", False)


@pytest.mark.parametrize(("auroc", "passed"), [("80.0", True), ("80.0001", False)])
def test_a_run_by_hand(subject, monkeypatch, auroc, passed):
    def by_hand(subject, task, out):
        values = {"epoch": 7, "image_auroc": float(auroc)}
        write_record(out / "metrics.json", {"last": values, "best": values})

    monkeypatch.setattr(selftest, "by_hand", by_hand)
    check = selftest.check_by_hand(subject)
    assert check[1:] == (f"{float(auroc):.4f}, and 80.0000 of the pipeline", passed)


def test_the_command_of_a_run_by_hand(subject, monkeypatch):
    commands = []
    monkeypatch.setattr(selftest, "run_command", commands.append)
    selftest.by_hand(subject, "seg", Path("out"), epochs=100)
    ((_, _, module, *words),) = commands
    config = subject.folder / "threads_2.json"
    run = ["--experiment=original", "--dataset=own", "--class=nut", "--shots=1"]
    assert (module, words[:2]) == ("fsad.cli", ["train", "seg"])
    assert words[2:] == [
        *run,
        "--seed=5",
        "--epochs=100",
        f"--config={config}",
        "--out=out",
    ]


def test_the_call_of_snakemake(subject, monkeypatch):
    commands = []
    monkeypatch.setattr(selftest, "run_command", commands.append)
    selftest.snakemake(subject, 1, "--cores", "2")
    config = subject.folder / "threads_1.json"
    ((_, _, module, *words),) = commands
    assert (module, words[:2]) == ("snakemake", ["--snakefile", "Snakefile"])
    assert words[2:] == ["--configfile", config, "--cores", "2"]
    folder = str(subject.folder / "threads_1")
    expected = subject.plan.config | {"threads": 1, "results": folder}
    assert json.loads(config.read_text()) == expected


def test_a_command_that_fails_ends_in_its_output():
    command = [sys.executable, "-c", "print('first'); raise SystemExit('last')"]
    with pytest.raises(UserError, match=r"(?s)-c .*: first\nlast$"):
        selftest.run_command(command)


def test_only_jobs_that_compute_are_monitored(subject):
    path = subject.folder / "threads_1/monitor/jobs.csv"
    path.parent.mkdir(parents=True)
    jobs(train=3, embed=2, prepare=1).to_csv(path)
    found = selftest.monitored(subject, 1)
    assert found["seconds"].tolist() == [3, 2]


def test_the_checklist(subject, monkeypatch):
    checks = [Check("fast", "1 s", True), Check("small", "9 GB", True)]
    monkeypatch.setattr(selftest, "verify", lambda subject: checks)
    page = selftest.write_checklist(subject)
    assert page.startswith("# Self-test\n\nown/nut, 1-shot, original, tiny, on ")
    assert "| fast | 1 s | PASS |\n| small | 9 GB | PASS |\n" in page


def test_a_promise_that_is_not_kept_is_an_error(subject, monkeypatch):
    checks = [Check("fast", "1 s", True), Check("small", "9 GB", False)]
    monkeypatch.setattr(selftest, "verify", lambda subject: checks[:1])
    page = selftest.write_checklist(subject)
    assert (subject.folder / "checklist.md").read_text() == page
    monkeypatch.setattr(selftest, "verify", lambda subject: checks)
    with pytest.raises(UserError, match=r"checklist\.md: promises not kept here: 1"):
        selftest.write_checklist(subject)
    page = (subject.folder / "checklist.md").read_text()
    assert "| fast | 1 s | PASS |\n| small | 9 GB | FAIL |\n" in page


def test_all_checks_are_made(subject, calls, monkeypatch):
    """On stand-ins of the pipeline, the monitor and the published way."""
    monkeypatch.setattr(selftest, "monitored", lambda *_: jobs(train=3, embed=2))
    aurocs = {"cls": 80.1, "seg": 79.9}
    monkeypatch.setattr(selftest, "published_way", lambda _: aurocs)

    def measured(action, *arguments):
        cost = Cost(2, 4) if action is selftest.snakemake else Cost(5, 9)
        return action(*arguments), cost

    monkeypatch.setattr(selftest, "measured", measured)

    def by_hand(subject, task, out, **options):
        shutil.copytree(selftest.run_folder(subject, task), out)
        path = out / "metrics.json"
        kept = json.loads(path.read_text()) | {"settings": {"options": options}}
        write_record(path, {n: x for n, x in kept.items() if n != "sha256"})

    monkeypatch.setattr(selftest, "by_hand", by_hand)
    calls.text = DRY_RUN.format(threads=2) + "Nothing to be done"
    checks = selftest.verify(subject)
    failed = [check.promise for check in checks if not check.passed]
    assert len(checks) == 14
    assert failed == [
        "a job with `threads: 1` uses at most 1.2 cores",
        "a second call makes nothing",  # no cached test set lies there
    ]


@pytest.fixture
def config(tmp_path):
    """A completed configuration of several classes, experiments and draws."""
    for name in ("bolt", "nut"):
        write_class(tmp_path / "data", name, each=1)
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    backbone = {"model": str(tmp_path / "tiny.json"), "pretrained": "random"}
    experiments = {"memory": {"method": "patchcore"}}
    experiments |= {n: {"variant": n} for n in ("original", "qq_dual")}
    overrides = {"own": {"bolt": {"epochs": 2}, "nut": {"epochs": 9}}}
    draws = {"shots": [2, 4], "seeds": [5, 6], "overrides": overrides}
    source = {"layout": "mvtec", "root": str(tmp_path / "data")}
    known = {"datasets": {"own": source}, "backbones": {"tiny": backbone}, **draws}
    return complete(known | {"experiments": experiments, "epochs": 4, "threads": 1})


def test_the_first_of_all_is_tested(tmp_path, config):
    subject = selftest.first_class(config, tmp_path, "Snakefile")
    assert subject.runs == {
        task: Run("original", "own", "bolt", task, shots=2, seed=5)
        for task in ("cls", "seg")
    }
    options = subject.plan.run(subject.runs["cls"])["options"]
    assert (options["epochs"], options["device"]) == (2, "cpu")
    assert subject.plan.one_run_per_job("original")
    assert subject.plan.config["monitor"]


def test_a_configuration_without_promptad_is_not_tested(tmp_path, config):
    config["experiments"].pop("original"), config["experiments"].pop("qq_dual")
    with pytest.raises(UserError, match="experiments: the self-test needs one of prom"):
        selftest.first_class(config, tmp_path, "Snakefile")


def test_the_published_way_gives_the_auroc_of_a_run(tmp_path, config):
    from fsad.single import run_single

    config |= {"resolution": selftest.OTHER_RESOLUTION}  # the published one
    subject = selftest.first_class(config, tmp_path, "Snakefile")
    for task, run in subject.runs.items():
        aurocs = list(selftest.published_run(subject, task))
        run_single(subject.plan.config, run, {}, tmp_path / task, vis=False)
        ours = selftest.last(tmp_path / task, task)
        assert len(aurocs) == 2
        assert ours == pytest.approx(aurocs[-1], abs=0.01)


@pytest.mark.parametrize(
    ("text", "generated"),
    [
        (f"datasets: {{demo: {{root: {selftest.DEMO}}}}}", True),
        ("datasets: {own: {root: data}}", False),
        ("datasets: {own: data}", False),
        ("datasets: [demo]", False),
        ("epochs: 1", False),
    ],
)
def test_the_demo_is_generated_where_it_is_named(
    tmp_path, monkeypatch, text, generated
):
    folders = []
    monkeypatch.setattr(selftest, "write_demo", folders.append)
    (tmp_path / "config.yaml").write_text(text)
    selftest.prepare_data([tmp_path / "config.yaml"])
    assert folders == ([Path(selftest.DEMO)] if generated else [])
