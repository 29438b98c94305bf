"""Faults, each followed by a plain run again."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import TINY, write_class
from project import Project
from stress import memory

HOUR = 3600  # seconds
ROOMY = 48 * 2**20  # bytes of a small disk, enough for the micro run
METRICS = "results/runs/original/own/bolt/k1/s111/seg/metrics.json"

# As root, which may read and write everything, only without these two capabilities.
AS_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def micro(folder) -> Project:
    """One class, one task."""
    project = Project(folder).write()
    shutil.rmtree(folder / "data")
    write_class(folder / "data", "bolt")
    project.configure(shots=[1], tasks=["seg"])
    return project


@pytest.fixture
def place(tmp_path) -> Project:
    return micro(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Tables of a run that nothing happened to, and the number of its files."""
    project = micro(tmp_path_factory.mktemp("undisturbed"))
    project.snakemake()
    return project.tables(), made(project)


def made(project) -> int:
    """Number of files in the results."""
    return sum(1 for _ in (project.folder / "results").rglob("*"))


@contextmanager
def running(project, *targets):
    """A run in a process group of its own; waited for at the end."""
    with open(project.folder / "output.txt", "w") as output:
        process = subprocess.Popen(
            project.command("--cores", "2", *targets),
            cwd=project.folder,
            env=project.variables(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.wait()


def wait_for(condition, process) -> None:
    """Wait until a condition holds or a process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.01)


def wait_for_progress(project, process, generator, files) -> None:
    """Wait for a random moment: some of the files that a run makes, and a bit more."""
    wanted = generator.randrange(files)
    wait_for(lambda: made(project) >= wanted, process)
    time.sleep(generator.uniform(0, 1))


def strike(process, number, group) -> None:
    """Send a signal to a run, or to its whole process group."""
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, number)


def assert_mended(project, undisturbed):
    project.snakemake()
    assert project.tables() == undisturbed[0]


def test_a_run_killed_as_it_is_written_is_made_again(place):
    """Run killed (-9, all processes) as its first file appears: the same bytes."""
    runs = place.folder / "results/runs"
    with running(place, METRICS) as process:
        wait_for(lambda: any(runs.rglob("*.npz")), process)
        strike(process, signal.SIGKILL, True)
    assert any(runs.rglob("*.npz"))
    place.snakemake(METRICS)
    mended = contents(runs)
    shutil.rmtree(runs)
    place.snakemake(METRICS)
    assert contents(runs) == mended


def contents(folder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SIGNALS = {
    "kill -9 of all": (signal.SIGKILL, True, 25),
    "kill -9 of Snakemake alone": (signal.SIGKILL, False, 25),
    "interrupt from the keyboard": (signal.SIGINT, True, 5),
    "SIGTERM": (signal.SIGTERM, False, 5),
}
STRIKES = [f"{name} {n}" for name, (*_, times) in SIGNALS.items() for n in range(times)]


@pytest.mark.long
@pytest.mark.parametrize("case_name", STRIKES)
def test_a_run_that_was_struck_gives_the_same_tables(place, undisturbed, case_name):
    """Signals at random moments: kill -9 (50), SIGINT (5), SIGTERM (5)."""
    number, group, _ = SIGNALS[case_name.rpartition(" ")[0]]
    with running(place) as process:
        generator = random.Random(case_name)
        wait_for_progress(place, process, generator, undisturbed[1])
        strike(process, number, group)
    assert_mended(place, undisturbed)


@pytest.mark.long
def test_a_clock_set_back_changes_nothing(place, undisturbed):
    """Clock set back by an hour within a run."""
    with running(place) as process:
        wait_for(lambda: made(place) > undisturbed[1] / 2, process)
        strike(process, signal.SIGKILL, True)
    for path in [*place.folder.rglob("*")]:
        stamp = path.stat().st_mtime + HOUR
        os.utime(path, (stamp, stamp))
    assert_mended(place, undisturbed)


@pytest.mark.long
def test_two_runs_at_once_do_not_meet(place, undisturbed):
    """Two runs at once: one works, the other is refused in one line."""
    with running(place) as first:
        wait_for((place.folder / "results/.lock").exists, first)
        second = place.snakemake(check=False)
    assert first.returncode == 0
    assert second.returncode == 1
    assert "another run is at work in results" in second.stdout + second.stderr
    assert place.tables() == undisturbed[0]


@contextmanager
def small_disk(folder):
    """A disk of its own under a folder."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root alone")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    """Write until the disk is full; returns the file that fills it."""
    filler = folder / "filler"
    with open(filler, "wb") as file:
        while True:
            try:
                os.write(file.fileno(), bytes(2**16))
            except OSError:
                return filler


@pytest.mark.long
@pytest.mark.parametrize("index", range(10))
def test_a_full_disk_is_survived(tmp_path, undisturbed, index):
    """Disk full from a random moment on."""
    with small_disk(tmp_path):
        project = micro(tmp_path)
        with running(project) as process:
            generator = random.Random(index)
            wait_for_progress(project, process, generator, undisturbed[1])
            filler = fill(tmp_path)
        filler.unlink()
        assert_mended(project, undisturbed)


@pytest.fixture
def as_user(place):
    """The project, run by one whom permissions bind."""
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("setpriv of util-linux is missing")
        place.launcher = AS_USER
    return place


@contextmanager
def permissions(path, mode):
    before = path.stat().st_mode
    path.chmod(mode)
    yield
    path.chmod(before)


FOLDERS = "data/bolt/test/hole", "data/bolt", "data"


@pytest.mark.parametrize(
    "culprit",
    [
        "data/bolt/test/hole/000.png",
        *(pytest.param(folder, marks=pytest.mark.long) for folder in FOLDERS),
    ],
)
def test_unreadable_input_is_named(as_user, full, request, culprit):
    """Input without permission to read it, refused by name."""
    with permissions(as_user.folder / culprit, 0):
        run = as_user.snakemake(check=False)
    output = run.stdout + run.stderr
    assert run.returncode == 1
    assert any(
        culprit in line and ("cannot be read" in line or "ermission denied" in line)
        for line in output.splitlines()
    )
    assert "Traceback (most" not in output
    if full:
        assert_mended(as_user, request.getfixturevalue("undisturbed"))


@pytest.mark.long
def test_read_only_results_are_named(as_user, undisturbed):
    """A folder of results without permission to write, refused by name."""
    (as_user.folder / "results").mkdir()
    with permissions(as_user.folder / "results", 0o555):
        run = as_user.snakemake(check=False)
    assert run.returncode == 1
    assert "results: results cannot be written" in run.stdout + run.stderr
    assert_mended(as_user, undisturbed)


SLACK = 48 * 2**20  # bytes: buffers of decoders and of one batch


def measured(folder, call, *arguments):
    """The numbers that a call of `memory` prints."""
    command = [sys.executable, memory.__file__, call, *map(str, arguments)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return map(int, run.stdout.split())


def assert_bounded(record_property, count, images, size, grown):
    record_property("images", images)
    record_property("arrays", f"{size / 2**20:.0f} MiB")
    record_property("memory", f"{grown / 2**20:.0f} MiB")
    assert images == count
    assert grown < 1.1 * size + SLACK


@pytest.mark.long
def test_memory_of_many_images_is_bounded(tmp_path, record_property):
    """Peak memory of decoding 2,000 test images, over that of their array."""
    folder = write_class(tmp_path / "data", "bolt", size=300)
    source = folder / "test/good/000.png"
    for index in range(2000 - 7):
        os.link(source, source.with_name(f"more{index:04}.png"))
    numbers = measured(tmp_path, "decoded", "data")
    assert_bounded(record_property, 2000, *numbers)


@pytest.mark.long
def test_memory_of_many_features_is_bounded(tmp_path, record_property):
    """Peak memory of embedding 20,000 small images, over that of their features."""
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    numbers = measured(tmp_path, "embedded", "tiny.json", 20_000)
    assert_bounded(record_property, 20_000, *numbers)


@pytest.mark.long
def test_200_jobs_in_a_process_do_not_grow(place, record_property):
    """Memory after 200 jobs in one process, over that after 20."""
    place.snakemake()
    numbers = measured(place.folder, "repeated", place.config, "again", 200)
    count, early, late = numbers
    record_property("after 20", f"{early / 2**20:.0f} MiB")
    record_property("after 200", f"{late / 2**20:.0f} MiB")
    assert count == len([*(place.folder / "again").rglob("metrics.json")]) == 200
    assert late < early + 16 * 2**20
