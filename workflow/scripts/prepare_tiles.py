"""Decode the test or support images of a class, and cut them into tiles."""

from fsad.data.decode import limit_pixels
from fsad.data.prepare import write_tiled
from fsad.jobs.job import job
from fsad.planning.options import class_files, class_region

with job(snakemake.log[0], snakemake.threads):
    limit_pixels(snakemake.config["max_megapixels"])
    place = (snakemake.wildcards.dataset, snakemake.wildcards.class_name)
    files = class_files(snakemake.config, *place)
    region = class_region(snakemake.config, *place)
    write_tiled(files, snakemake.params.target, snakemake.threads, region)
