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
    computes = planned.vision.path in snakemake.input  # features that are in no file
    run_job(planned if computes else planned._replace(vision=None))
