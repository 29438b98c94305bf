"""The plan of the configuration, which the rules read, and paths with wildcards."""

import atexit
import os
import re
import sys
from pathlib import Path

import snakemake_internals as internals
from fsad.artifacts.code import code_digest, file_code
from fsad.artifacts.paths import Run, fill, run_path
from fsad.errors import UserError
from fsad.jobs.locks import lock_results, reset_future_mtimes
from fsad.jobs.parent_watch import SNAKEMAKE_PID
from fsad.planning import checks, disk, options, pages, panels, predictions


def or_stop(work, *arguments, **options):
    """The result of `work`; what a user can mend ends the call in one line."""
    try:
        return work(*arguments, **options)
    except UserError as error:
        raise WorkflowError(str(error))


or_stop(internals.check_call, workflow)
# A job of a cluster passes over classes that it has no files of.
PLAN = or_stop(checks.make_plan, config, strict=workflow.is_main_process)
config, TREE = PLAN.config, PLAN.tree
or_stop(internals.share_gpus, workflow, config)
os.environ[SNAKEMAKE_PID] = str(os.getpid())  # jobs end with it, see fsad.jobs


def start_run():
    """Lock the results, and start the monitor, before the first job."""
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


wildcard_constraints:
    backbone="[^/]+",
    dataset="[^/]+",
    class_name="[^/]+",
    experiment="[^/]+",
    prediction="[^/]+",
    readout="[^/]+",
    tiles="[^/]+_tiles[^/]+",
    task="[^/]+",
    shots="[0-9]+",
    seed="[0-9]+",
