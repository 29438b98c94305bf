"""Make the runs of a job: fit, evaluate, write."""

from fsad.artifacts.sources import RunJob
from fsad.evaluation.runs import run_job
from fsad.jobs.gpus import gpu_slot
from fsad.jobs.job import job

with (
    job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]),
    gpu_slot(snakemake.config),
):
    run_job(RunJob(**snakemake.params.job))
