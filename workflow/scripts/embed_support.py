"""Embed the support images of a class and compare its test images with them."""

from promptad import features, provenance, storage
from promptad.devices import check_device
from promptad.gpus import gpu_slot
from promptad.jobs import job
from promptad.transformer import load_tower, placed
from promptad.variants import Variant

with (
    job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]),
    gpu_slot(snakemake.config),
):
    fields, device = snakemake.params.variant, snakemake.params.device
    check_device(device)
    tower = load_tower(snakemake.input.tower)
    tower = placed(tower, device, snakemake.params.precision)
    support = storage.read_npz(snakemake.input.images)
    test = storage.read_npz(snakemake.input.test, *features.MEMORY)
    arrays = features.embed_support(tower, support, test, Variant(**fields))
    settings = provenance.settings(**snakemake.wildcards, fields=fields)
    output = snakemake.output
    storage.write_npz(output.features, arrays, settings, output.digest)
