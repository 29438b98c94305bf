"""Make the runs of a job: fit, evaluate, write."""

from fsad.artifacts.sources import RunJob
from fsad.evaluation.runs import run_job
from fsad.jobs.gpus import gpu_slot
from fsad.jobs.job import job

with (
    job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]),
    gpu_slot(snakemake.config),
):
    planned = RunJob(**snakemake.params.job)
    run_job(planned._replace(stored=planned.test.features.path in snakemake.input))
