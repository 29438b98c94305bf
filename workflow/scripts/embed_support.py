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
    place = snakemake.wildcards
    tower = load_tower(
        snakemake.input.tower, provenance.tower_origin(snakemake.input.tower)
    )
    pixels = {**place, "size": tower.config["image_size"]}
    tower = placed(tower, device, snakemake.params.precision)
    made = provenance.origin("preprocess_support.py", **pixels)
    support = storage.read_npz(snakemake.input.images, origin=made)
    made = provenance.origin("embed_test.py", **place)
    test = storage.read_npz(snakemake.input.test, *features.MEMORY, origin=made)
    arrays = features.embed_support(tower, support, test, Variant(**fields))
    settings = provenance.settings(**place, fields=fields, code=snakemake.params.code)
    output = snakemake.output
    storage.write_npz(output.features, arrays, settings, output.digest)
