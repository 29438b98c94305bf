"""The plan of the configuration, which the rules read, and paths with wildcards."""

import atexit
import os
import re
import sys

import snakemake_internals as internals
from fsad.artifacts.code import code_digest, file_code
from fsad.artifacts.paths import Run, fill, run_path
from fsad.errors import UserError
from fsad.jobs.locks import lock_results, reset_future_mtimes
from fsad.jobs.parent_watch import SNAKEMAKE_PID
from fsad.planning.options import planned_runs
from fsad.planning.plan import Plan


def or_stop(work, *arguments, **options):
    """The result of `work`; what a user can mend ends the call in one line."""
    try:
        return work(*arguments, **options)
    except UserError as error:
        raise WorkflowError(str(error))


# A job of a cluster passes over classes that it has no files of.
PLAN = or_stop(Plan, config, strict=workflow.is_main_process)
config, TREE = PLAN.config, PLAN.tree
FEATURES = {"backbone": PLAN.backbone}  # part of paths below features/
GPU = int(config["device"] != "cpu")  # asked for by each job that uses one
WRONG = internals.share_gpus(workflow, len(config["gpus"]) * config["jobs_per_gpu"], GPU)
if WRONG:
    raise WorkflowError(WRONG)
os.environ[SNAKEMAKE_PID] = str(os.getpid())  # jobs end with it, see fsad.jobs


def start_run():
    """Keep other runs out of the results, before the first job."""
    or_stop(lock_results, config["results"])
    or_stop(reset_future_mtimes, config["results"])
    if config["monitor"]:
        from fsad.jobs.monitor import start_monitor

        start_monitor(os.getpid(), TREE.monitor, workflow.cores)


@atexit.register
def save_digests():
    if workflow.is_main_process and internals.makes_files(workflow):
        PLAN.save_digests()


def script_code(name):
    """Digest of a script; that of library code stands in the records of artefacts."""
    return file_code(workflow.source_path(f"../scripts/{name}.py"))


def place(wildcards):
    return wildcards.dataset, wildcards.class_name


def run_of(wildcards):
    """The run of a path; it must be one of the configuration."""
    keys = dict(wildcards.items())
    run = Run(**keys | {"shots": int(keys["shots"]), "seed": int(keys["seed"])})
    if not PLAN.is_planned(run):
        raise WorkflowError(f"{run_path(TREE.run, run)}: no run of this configuration")
    return run


def needed(files, is_made):
    """Input files of a job; none where its output is there as planned.

    The record in an artefact decides, not the time of a file it was made from, and a
    job that is in no need of files has nothing made for it.
    """
    or_stop(internals.check_triggers, workflow)
    return [] if is_made else files


wildcard_constraints:
    dataset="[^/]+",
    class_name="[^/]+",
    experiment="[^/]+",
    prediction="[^/]+",
    readout="[^/]+",
    task="[^/]+",
    shots="[0-9]+",
    seed="[0-9]+",
