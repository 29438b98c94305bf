"""Decode and resize the test images of a class."""

from promptad import images, layouts, provenance, storage
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads):
    size, name = snakemake.params.size, snakemake.wildcards.class_name
    source = snakemake.config["datasets"][snakemake.wildcards.dataset]
    files = layouts.list_class(source["layout"], source["root"], name)
    arrays = images.load_images(files.test, size, snakemake.threads)
    settings = provenance.settings(
        **snakemake.wildcards, size=size, code=snakemake.params.code
    )
    output = snakemake.output
    storage.write_npz(output.images, arrays, settings, output.digest)
