"""Micro projects: a fresh one for each test, and one that has run."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from project import Project


@pytest.fixture(scope="session")
def plugins() -> str:
    """PYTHONPATH with Snakemake's executors for clusters."""
    folder = Path(sys.prefix) / "cluster"
    if not folder.exists():
        pytest.skip("envs/cluster.txt is not installed: `make test` does it")
    return os.pathsep.join([os.environ["PYTHONPATH"], str(folder)])


@pytest.fixture
def project(tmp_path) -> Project:
    """A fresh micro project, nothing run yet."""
    return Project(tmp_path).write()


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A micro project whose pipeline has run; tests leave it as it is.

    The first process of tests makes it, each has its copy.
    """
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made"
    with FileLock(made.with_suffix(".lock")):
        if not made.exists():
            project = Project(tmp_path_factory.mktemp("made")).write()
            project.snakemake()
            project.folder.rename(made)
    copy = shutil.copytree(made, tmp_path_factory.mktemp("finished") / "project")
    return Project(copy)


@pytest.fixture
def copied(finished, tmp_path) -> Project:
    """A copy of the finished project that a test may change."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    return Project(tmp_path)
