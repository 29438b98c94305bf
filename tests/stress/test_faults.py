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

import pytest

from fsad.artifacts import files
from helpers import TINY, write_class
from project import Project

HOUR = 3600  # seconds
ROOMY = 48 * 2**20  # bytes of a small disk, enough for the micro run

# As root, which may read and write everything, only without these two capabilities.
AS_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def micro(folder) -> Project:
    """One class, one task: ends within 20 seconds on two free cores."""
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
    """Tables of a run that nothing happened to, and its seconds."""
    project = micro(tmp_path_factory.mktemp("undisturbed"))
    start = time.monotonic()
    project.snakemake()
    return project.tables(), time.monotonic() - start


@contextmanager
def running(project):
    """A run in a process group of its own; waited for at the end."""
    environment = os.environ | project.environment
    with open(project.folder / "output.txt", "w") as output:
        process = subprocess.Popen(
            project.command("--cores", "2"),
            cwd=project.folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.wait()


def assert_mended(project, undisturbed):
    project.snakemake()
    assert project.tables() == undisturbed[0]


def interrupted(project, after, number, group):
    """Start a run and send it a signal, or its whole process group."""
    with running(project) as process:
        time.sleep(after)
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)


SIGNALS = {
    "kill -9 of all": (signal.SIGKILL, True, 25),
    "kill -9 of Snakemake alone": (signal.SIGKILL, False, 25),
    "interrupt from the keyboard": (signal.SIGINT, True, 5),
    "SIGTERM": (signal.SIGTERM, False, 5),
}


def pytest_generate_tests(metafunc):
    """`strike` runs over all signals and so many of each, one in the short part."""
    if "strike" in metafunc.fixturenames:
        full = metafunc.config.getoption("--stress", False)
        strikes = [
            (name, index)
            for name, (*_, count) in SIGNALS.items()
            for index in range(count)
        ]
        strikes = strikes if full else strikes[:1]
        ids = [f"{name} {index}" for name, index in strikes]
        metafunc.parametrize("strike", strikes, ids=ids)


def test_a_run_that_was_struck_gives_the_same_tables(place, undisturbed, strike):
    """Signals at random moments: kill -9 (50), SIGINT (5), SIGTERM (5)."""
    number, group, _ = SIGNALS[strike[0]]
    after = random.Random(str(strike)).uniform(0, undisturbed[1])
    interrupted(place, after, number, group)
    assert_mended(place, undisturbed)


@pytest.mark.long
def test_a_clock_set_back_changes_nothing(place, undisturbed):
    """Clock set back by an hour within a run."""
    interrupted(place, undisturbed[1] / 2, signal.SIGKILL, True)
    for path in [*place.folder.rglob("*")]:
        stamp = path.stat().st_mtime + HOUR
        os.utime(path, (stamp, stamp))
    assert_mended(place, undisturbed)


@pytest.mark.long
def test_two_runs_at_once_do_not_meet(place, undisturbed):
    """Two runs at once: one works, the other is refused in one line."""
    with running(place) as first:
        while not (place.folder / "results/.lock").exists() and first.poll() is None:
            time.sleep(0.1)
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
    after = random.Random(index).uniform(0, undisturbed[1])
    with small_disk(tmp_path):
        project = micro(tmp_path)
        with running(project):
            time.sleep(after)
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


@pytest.mark.parametrize(
    "culprit",
    ["data/bolt/test/hole/000.png", "data/bolt/test/hole", "data/bolt", "data"],
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


def test_read_only_results_are_named(as_user, full, request):
    """A folder of results without permission to write, refused by name."""
    (as_user.folder / "results").mkdir()
    with permissions(as_user.folder / "results", 0o555):
        run = as_user.snakemake(check=False)
    assert run.returncode == 1
    assert "results: results cannot be written" in run.stdout + run.stderr
    if full:
        assert_mended(as_user, request.getfixturevalue("undisturbed"))


MEASURED = """
import sys
import numpy as np
import psutil
import torch
from fsad.data import images
from fsad.data import layouts
from fsad.backbones.transformer import Tower
from fsad.backbones.readout import VARIANTS
from fsad.backbones.clip_vision import embed_images


def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if "VmHWM" in line).split()[1]) * 1024


def growth(call):
    open("/proc/self/clear_refs", "w").write("5")  # the peak is now what is in use
    before = psutil.Process().memory_info().rss
    made = call()
    return made, peak() - before
"""
LOADED = (
    MEASURED
    + """
files = layouts.list_class("folder", sys.argv[1], "bolt")
images.load_images(files.test[:4], 240, 2)
arrays, grown = growth(lambda: images.load_images(files.test, 240, 2))
print(len(files.test), arrays["images"].nbytes, grown)
"""
)
EMBEDDED = (
    MEASURED
    + """
from fsad.backbones.clip import load_backbone
backbone = {"model": sys.argv[2], "pretrained": "random", "random_seed": 0}
tower, _ = load_backbone(backbone)
pixels = np.zeros((int(sys.argv[3]), 32, 32, 3), np.uint8)
embed_images(tower, pixels[:16], VARIANTS["original"])
arrays, grown = growth(lambda: embed_images(tower, pixels, VARIANTS["original"]))
print(len(pixels), sum(array.nbytes for array in arrays.values()), grown)
"""
)
SLACK = 48 * 2**20  # bytes: buffers of decoders and of one batch


def measured(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
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
    figures = measured(LOADED, tmp_path / "data")
    assert_bounded(record_property, 2000, *figures)


@pytest.mark.long
def test_memory_of_many_features_is_bounded(tmp_path, record_property):
    """Peak memory of embedding 20,000 small images, over that of their features."""
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    figures = measured(EMBEDDED, tmp_path, tmp_path / "tiny.json", 20_000)
    assert_bounded(record_property, 20_000, *figures)


AGAIN = """
import json, sys
import psutil
from fsad.jobs.threads import limit_torch_threads
limit_torch_threads(1)
from fsad.evaluation.runs import run_from_files
files, settings = json.loads(sys.argv[2]), json.loads(sys.argv[3])
sizes = []
for index in range(200):
    run_from_files([sys.argv[1]], [settings], **files)
    sizes.append(psutil.Process().memory_info().rss)
print(sizes[19], sizes[-1])
"""


@pytest.mark.long
def test_200_jobs_in_a_process_do_not_grow(place, record_property):
    """Memory after 200 jobs in one process, over that after 20."""
    place.snakemake()
    run = place.folder / "results/runs/original/own/bolt/k1/s111/seg"
    settings = files.read_settings(run / "model.npz")
    (tower,) = place.folder.glob("results/features/*/text.safetensors")
    features = tower.parent / "original/own/bolt"
    cache = place.folder / "results/cache/own/bolt"
    files = {
        "tower": str(tower),
        "prompts": str(cache / "prompts.npz"),
        "test": str(features / "test.npz"),
        "support": [str(features / "support_k1_s111.npz")],
        "masks": str(cache / "masks_r32.npz"),
    }
    for name in ("code", "provenance"):
        del settings[name]
    out = place.folder / "again"
    early, late = measured(AGAIN, out, json.dumps(files), json.dumps(settings))
    record_property("after 20", f"{early / 2**20:.0f} MiB")
    record_property("after 200", f"{late / 2**20:.0f} MiB")
    assert late < early + 16 * 2**20
