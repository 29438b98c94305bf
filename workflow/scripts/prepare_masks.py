"""Decode and resize the masks of a class's test images."""

from fsad.data.decode import limit_pixels
from fsad.data.prepare import write_masks
from fsad.jobs.job import job
from fsad.planning.options import class_files, class_region

with job(snakemake.log[0], snakemake.threads):
    limit_pixels(snakemake.config["max_megapixels"])
    files = class_files(snakemake.config, **snakemake.wildcards)
    region = class_region(snakemake.config, **snakemake.wildcards)
    write_masks(snakemake.params.masks, files.test, snakemake.threads, region)
