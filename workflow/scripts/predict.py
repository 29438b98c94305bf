"""Score new images with a trained run; those that cannot be read are in the table."""

from pathlib import Path

from promptad.errors import UserError
from promptad.gpus import gpu_slot
from promptad.jobs import job
from promptad.layouts import find_images
from promptad.predicting import predict
from promptad.trained import run_detector

with (
    job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]),
    gpu_slot(snakemake.config),
):
    folder = Path(snakemake.input.run[0]).parent
    detector = run_detector(folder, snakemake.params.device)
    source = snakemake.config["predict"][snakemake.wildcards.prediction]["images"]
    images, out = find_images([source]), Path(snakemake.output.scores).parent
    counts = predict(detector, images, out, snakemake.threads)
    if counts.failed == len(images):
        raise UserError(f"{source}: no image there can be read")
