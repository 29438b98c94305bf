"""Internals of Snakemake that workflow/snakemake_internals.py and the Snakefile use."""

import inspect
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake.api import SnakemakeApi, WorkflowApi
from snakemake.cli import parse_config
from snakemake.dag import DAG
from snakemake.jobs import Job
from snakemake.persistence import PersistenceBase
from snakemake.resources import ResourceScopes
from snakemake.settings.enums import RerunTrigger
from snakemake.workflow import Workflow

import snakemake_internals as internals
from fsad.artifacts.schema import read_yaml
from fsad.errors import UserError
from helpers import REPOSITORY
from test_offline import CONNECT

USED = {
    Workflow: (
        "include",
        "source_path",
        "is_main_process",
        "configfiles",
        "dryrun",
        "executor_plugin",
        "rerun_triggers",
        "register_resource",
        "global_resources",
        "resource_scopes",
        "cores",
        "dag",
        "scheduler",
        "persistence",
        "globals",
    ),
    DAG: ("needrun_jobs", "bfs", "depending", "forcefiles"),
    Job: ("rule", "output", "log"),
    PersistenceBase: ("started",),
    ResourceScopes: ("is_local",),
    WorkflowApi: ("_workflow", "dag"),
    SnakemakeApi: ("workflow",),
    RerunTrigger: ("parse_choices_set",),
}


@pytest.mark.parametrize("owner", USED)
def test_what_is_used_is_there(owner):
    source = inspect.getsource(owner)
    missing = [n for n in USED[owner] if not hasattr(owner, n) and n not in source]
    assert missing == []


def test_options_of_a_call_are_parsed():
    assert parse_config(["epochs=3", "shots=[1,2]"])["epochs"] == 3


@pytest.mark.parametrize(
    "triggers", [["mtime"], ["mtime", "code"], ["params", "input"]]
)
def test_triggers_that_do_not_see_changed_contents_are_refused(triggers):
    chosen = RerunTrigger.parse_choices_set(triggers)
    with pytest.raises(UserError, match="--rerun-triggers: must have params, and not"):
        internals.check_triggers(SimpleNamespace(rerun_triggers=chosen))


def test_the_triggers_of_the_profile_are_taken():
    profile = read_yaml(REPOSITORY / "profiles/default/config.yaml")
    chosen = RerunTrigger.parse_choices_set(profile["rerun-triggers"])
    internals.check_triggers(SimpleNamespace(rerun_triggers=chosen))


def test_a_key_that_stands_twice_ends_the_call(tmp_path):
    (tmp_path / "plain.yaml").write_text("shots: [1]\n")
    (tmp_path / "twice.yaml").write_text("datasets: {a: 1}\n\ndatasets: {b: 2}\n")
    internals.check_call(SimpleNamespace(configfiles=[tmp_path / "plain.yaml"]))
    workflow = SimpleNamespace(configfiles=[*tmp_path.glob("*.yaml")])
    message = r"twice\.yaml: 'datasets' stands twice in one place, in lines 1 and 3"
    with pytest.raises(UserError, match=message):
        internals.check_call(workflow)


def test_an_environment_that_jobs_cannot_start_from_ends_the_call(monkeypatch):
    placed = ("/home/a folder (1)/.venv/bin/python",)
    monkeypatch.setattr(internals.check_environment, "__defaults__", placed)
    with pytest.raises(UserError, match="must hold no space or bracket"):
        internals.check_call(SimpleNamespace(configfiles=[]))


def test_a_job_has_no_network(tmp_path):
    """As in all processes of the tests, see test_offline."""
    (tmp_path / "job.py").write_text(CONNECT)
    (tmp_path / "Snakefile").write_text('rule all:\n    script: "job.py"\n')
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert b"tests have no network" in run.stderr
