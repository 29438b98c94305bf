"""Embed the test images of a class with one variant of the vision tower."""

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
    images = storage.read_npz(snakemake.input.images)
    arrays = features.embed_test(tower, images, Variant(**fields))
    settings = provenance.settings(**snakemake.wildcards, fields=fields)
    output = snakemake.output
    storage.write_npz(output.features, arrays, settings, output.digest)
