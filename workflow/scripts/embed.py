"""Embed the test and support images of a class with one readout of the backbone."""

from fsad.backbones.features import write_features
from fsad.jobs.gpus import gpu_slot
from fsad.jobs.job import job

with (
    job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]),
    gpu_slot(snakemake.config),
):
    write_features(snakemake.params.tower, snakemake.params.work)
