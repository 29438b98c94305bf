"""Decode and resize the test images of a class."""

from promptad import images, layouts, provenance, storage
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads):
    source, size = snakemake.params.source, snakemake.params.size
    name = snakemake.wildcards.class_name
    files = layouts.list_class(**source, name=name)
    arrays = images.load_images(files.test, size, snakemake.threads)
    settings = provenance.settings(source=source, name=name, size=size)
    storage.write_npz(snakemake.output[0], arrays, settings)
