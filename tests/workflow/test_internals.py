"""Internals of Snakemake that workflow/snakemake_internals.py and the Snakefile use."""

import inspect

import pytest
from snakemake.api import SnakemakeApi, WorkflowApi
from snakemake.cli import parse_config
from snakemake.dag import DAG
from snakemake.jobs import Job
from snakemake.persistence import PersistenceBase
from snakemake.resources import ResourceScopes
from snakemake.settings.enums import RerunTrigger
from snakemake.workflow import Workflow

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
