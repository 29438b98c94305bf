"""Numbers."""

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from helpers import REPOSITORY, relative_error
from project import Project

pytestmark = pytest.mark.long
NUMBERS = ("*.npz", "*.csv", "*.json", "*.md", "*.tex", "*.parquet", "*.safetensors")
UNLIKE = {"benchmarks", "logs"}  # times
TWO_THREADS = {"threads": 2, "shots": [1], "epochs": 6}


def project(folder, repository=REPOSITORY, **changes) -> Project:
    """A project of jobs with two threads."""
    made = Project(folder).write()
    made.repository = repository
    made.configure(**TWO_THREADS | changes)
    return made


def digests(folder: Path) -> dict[str, str]:
    """Digest of each file of numbers in the results, but those that note times."""
    results = folder / "results"
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in NUMBERS
        for path in sorted(results.rglob(pattern))
        if not UNLIKE & {*path.relative_to(results).parts}
        and path.name != "digests.json"  # times of the images
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Results on two cores: two threads a job, and one job for all runs of a class."""
    made = project(tmp_path_factory.mktemp("reference"))
    made.snakemake("--cores", "2")
    return made.folder


@pytest.mark.parametrize("cores", [1, 4])
def test_cores_change_no_bit(tmp_path, reference, cores, record_property):
    """Files of numbers with 1 and 4 cores, each the bytes of those with 2."""
    project(tmp_path).snakemake("--cores", cores)
    found = digests(tmp_path)
    record_property("files", len(found))
    assert found == digests(reference)


def test_a_second_run_changes_no_bit(tmp_path, reference):
    """A second run gives the bytes of the first."""
    project(tmp_path).snakemake("--cores", "2")
    assert digests(tmp_path) == digests(reference)


def test_runs_per_job_change_no_bit(tmp_path, reference):
    """One run a job gives the bytes of all runs of a class in one job."""
    project(tmp_path, runs_per_job="one").snakemake("--cores", "2")
    assert digests(tmp_path) == digests(reference)


def test_two_clones_change_no_bit(tmp_path):
    """Two clones at different places give the same bytes."""
    found = []
    for name in ("one", "another/place"):
        clone = tmp_path / name / "clone"
        command = ["git", "clone", "--quiet", REPOSITORY, clone]
        subprocess.run(command, check=True)
        made = project(tmp_path / name / "work", repository=clone)
        made.run(made.command("--cores", "2"))
        found.append(digests(made.folder))
    assert found[0] == found[1]


def test_what_the_number_of_threads_changes(tmp_path, reference, record_property):
    """One thread a job instead of two: the last digits, sums being shared otherwise."""
    project(tmp_path, threads=1).snakemake("--cores", "2")
    apart = max(
        difference(path, tmp_path / path.relative_to(reference))
        for path in (reference / "results/runs").rglob("scores.npz")
    )
    record_property("greatest relative difference of scores or maps", f"{apart:.1e}")
    assert apart < 1e-4


def difference(path: Path, other: Path) -> float:
    """Greatest relative difference of an array of two runs, after the last epoch."""
    one, two = np.load(path), np.load(other)
    names = [name for name in one.files if name.startswith("last_")]
    assert {"last_scores", "last_maps"} <= {*names}
    return max(relative_error(two[name], one[name]) for name in names)
