"""Decode and resize the test images of a class, and its support images."""

from fsad.data.decode import limit_pixels
from fsad.data.prepare import write_class
from fsad.jobs.job import job
from fsad.planning.options import class_files, class_region

with job(snakemake.log[0], snakemake.threads):
    limit_pixels(snakemake.config["max_megapixels"])
    params = snakemake.params
    files = class_files(snakemake.config, **snakemake.wildcards)
    region = class_region(snakemake.config, **snakemake.wildcards)
    write_class(files, params.test, params.support, snakemake.threads, region)
