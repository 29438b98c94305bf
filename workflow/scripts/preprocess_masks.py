"""Decode and resize the masks of a class's test images."""

from promptad import images, layouts, provenance, storage
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads):
    source, resolution = snakemake.params.source, snakemake.params.resolution
    name = snakemake.wildcards.class_name
    files = layouts.list_class(**source, name=name)
    arrays = images.load_masks(files.test, resolution, snakemake.threads)
    settings = provenance.settings(source=source, name=name, resolution=resolution)
    storage.write_npz(snakemake.output[0], arrays, settings)
