"""The one file that leans on internals of Snakemake; the library gets plain records.

tests/workflow/test_internals.py names each internal that is used here, so that an
update of Snakemake fails there first.
"""

import json
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

import yaml

from fsad.artifacts.schema import check_yaml
from fsad.errors import UserError
from fsad.jobs.environment import check_environment


def check_call(workflow) -> None:
    """Raise UserError if jobs cannot start here, or a key stands twice in a file."""
    check_environment()
    for path in workflow.configfiles:
        check_yaml(path)


def makes_files(workflow) -> bool:
    """Whether this call runs jobs: no dry run, and no question like --summary."""
    return workflow.executor_plugin is not None and not workflow.dryrun


def check_triggers(workflow) -> None:
    """Raise UserError unless changes of `params` have a job run again.

    Digests of contents stand there alone. By the trigger `input` all jobs would run
    again, since a job whose output is as planned has no input files.
    """
    triggers = {str(trigger) for trigger in workflow.rerun_triggers}
    if "params" not in triggers or "input" in triggers:
        raise UserError(
            "--rerun-triggers: must have params, and not input, as in profiles/default;"
            " leave the option out"
        )


def share_gpus(workflow, config: dict) -> None:
    """Register the slots of local GPUs as a resource.

    Raises UserError if the call gives GPUs that no job uses.
    """
    slots = len(config["gpus"]) * config["jobs_per_gpu"]
    given = "gpu" in workflow.global_resources
    shared = given and not workflow.resource_scopes.is_local("gpu")  # not of each node
    if shared and config["device"] == "cpu":
        raise UserError(
            "config: device: is cpu, with GPUs among the resources of this call; "
            "--config replaces all options of a profile, so repeat them beside your own"
        )
    if slots and not given:
        workflow.register_resource("gpu", slots)


def failures(workflow, rule: str) -> dict | None:
    """Outputs and logs of failed jobs, where `rule` was not made because of them.

    `missing`: outputs that were not made. `lost`: those that a failed job, or one that
    needed it, would have made. `logs`: of the failed jobs. None if no job failed, or
    `rule` itself did.
    """
    dag, unmade = workflow.dag, list(workflow.dag.needrun_jobs())
    groups = [job for job in workflow.scheduler.failed if job.is_group()]
    failed = workflow.scheduler.failed.union(*(group.jobs for group in groups))
    failed = failed.intersection(unmade)
    waiting = [job for job in unmade if job.rule.name == rule]
    if not failed or not waiting or not failed.isdisjoint(waiting):
        return None
    return {
        "missing": _outputs(unmade),
        "lost": _outputs(dag.bfs(dag.depending, *failed)),
        "logs": sorted(str(file) for job in failed for file in job.log),
    }


def _outputs(jobs: Iterable) -> set[str]:
    return {str(file) for job in jobs for file in job.output}


def mark_incomplete(workflow, rule: str) -> None:
    """Have the next call make the outputs of a rule anew."""
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == rule:
            workflow.persistence.started(job)


def make_again(workflow, output: str) -> None:
    """Have the job of an output run, although the output is there."""
    workflow.dag.forcefiles.add(output)


def planned_jobs(snakefile: str, configfiles: list[str], config: list[str]) -> dict:
    """The `jobs` of a call, with `rule`, `outputs` and `log`, and its `config`."""
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_config
    from snakemake.settings.enums import Quietness, RerunTrigger
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        ResourceSettings,
    )

    profile = Path(snakefile).parent / "profiles/default/config.yaml"
    triggers = yaml.safe_load(profile.read_text())["rerun-triggers"]
    paths = [Path(path) for path in configfiles]
    options = ConfigSettings(config=parse_config(config), configfiles=paths)
    graph = DAGSettings(rerun_triggers=RerunTrigger.parse_choices_set(triggers))
    with (
        SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api,
        redirect_stdout(sys.stderr),
    ):
        call = api.workflow(
            ResourceSettings(cores=1), options, snakefile=Path(snakefile)
        )
        call.dag(graph).printrulegraph()  # which builds the graph
        workflow = call._workflow
        jobs = [
            {
                "rule": job.rule.name,
                "outputs": sorted(_outputs([job])),
                "log": [*job.log],
            }
            for job in workflow.dag.needrun_jobs()
        ]
        return {"jobs": jobs, "config": workflow.globals["config"]}


if __name__ == "__main__":
    from snakemake.exceptions import WorkflowError

    try:
        print(json.dumps(planned_jobs(**json.load(sys.stdin))))
    except WorkflowError as error:
        sys.exit(str(error))
