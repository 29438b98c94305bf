import os
import platform
import subprocess
from importlib.metadata import version

import pytest

from fsad.artifacts import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository in whose folder the module believes to lie."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # a hook sets them
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    return tmp_path, head.stdout.strip()


def test_versions_are_those_installed():
    found = provenance.provenance()
    assert found["python"] == platform.python_version()
    assert found["versions"]["torch"] == version("torch")
    assert found["versions"]["open_clip_torch"] == version("open_clip_torch")


def test_a_package_that_is_absent_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert provenance.provenance()["versions"] == {"no-such-package": None}


def test_settings_hold_the_record_and_its_provenance():
    stored = provenance.with_provenance({"task": "cls", "seed": 1})
    assert stored == {"task": "cls", "seed": 1, "provenance": provenance.provenance()}


def test_the_commit_is_that_of_the_checkout(checkout):
    assert provenance.git_commit() == checkout[1]


def test_a_changed_checkout_is_dirty(checkout):
    (checkout[0] / "file").write_text("2")
    assert provenance.git_commit() == f"{checkout[1]}-dirty"


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert provenance.git_commit() is None


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_commit() is None
