"""Decode and resize the masks of a class's test images."""

from fsad.data.prepare import write_masks
from fsad.jobs.job import job
from fsad.planning.options import class_files

with job(snakemake.log[0], snakemake.threads):
    files = class_files(snakemake.config, **snakemake.wildcards)
    write_masks(snakemake.params.masks, files.test, snakemake.threads)
