"""Decode and resize the test images of a class, and its support images."""

from fsad.data.prepare import write_images
from fsad.data.support import named_support
from fsad.jobs.job import job
from fsad.planning.options import class_files

with job(snakemake.log[0], snakemake.threads):
    files = class_files(snakemake.config, **snakemake.wildcards)
    write_images(snakemake.params.test, files.test, snakemake.threads)
    for target in snakemake.params.support:
        names = [name for name, _ in target.record["images"]]
        samples = named_support(files.train, names)
        write_images(target, samples, snakemake.threads)
