"""Decode and resize the masks of a class's test images."""

from promptad import images, layouts, provenance, storage
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads):
    resolution, name = snakemake.params.resolution, snakemake.wildcards.class_name
    source = snakemake.config["datasets"][snakemake.wildcards.dataset]
    files = layouts.list_class(source["layout"], source["root"], name)
    arrays = images.load_masks(files.test, resolution, snakemake.threads)
    settings = provenance.settings(
        **snakemake.wildcards, resolution=resolution, code=snakemake.params.code
    )
    output = snakemake.output
    storage.write_npz(output.masks, arrays, settings, output.digest)
