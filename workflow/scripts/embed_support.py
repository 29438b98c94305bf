"""Embed the support images of a class and compare its test images with them."""

from promptad import features, provenance, storage
from promptad.gpus import gpu_slot
from promptad.jobs import job

with (
    job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]),
    gpu_slot(snakemake.config),
):
    place, how, output = snakemake.wildcards, snakemake.params, snakemake.output
    arrays = features.embed_support_from_files(place, how, **snakemake.input)
    made_by = provenance.settings(**place, fields=how.variant, code=how.code)
    storage.write_npz(output.features, arrays, made_by, output.digest)
