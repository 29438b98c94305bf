"""Learn the prompts of one class, evaluate them, and write its runs."""

from pathlib import Path

from promptad import runs
from promptad.gpus import gpu_slot
from promptad.jobs import job

with (
    job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]),
    gpu_slot(snakemake.config),
):
    folders = [Path(file).parent for file in snakemake.output.metrics]
    runs.run_from_files(folders, snakemake.params.settings, **snakemake.input)
