"""Score new images with a run; those that cannot be read are in the table."""

from pathlib import Path

from fsad.data.decode import limit_pixels
from fsad.evaluation.predict import predict_entry
from fsad.jobs.gpus import gpu_slot
from fsad.jobs.job import job

with (
    job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]),
    gpu_slot(snakemake.config),
):
    limit_pixels(snakemake.config["max_megapixels"])
    entry = snakemake.config["predict"][snakemake.wildcards.prediction]
    run, out = (Path(p).parent for p in (snakemake.input.metrics, snakemake.output[0]))
    predict_entry(run, entry["images"], out, snakemake.params.record, snakemake.threads)
