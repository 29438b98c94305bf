"""Learn the prompts of one class, evaluate them, and write the run."""

from pathlib import Path

from promptad import runs
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads, torch=True):
    folder = Path(snakemake.output.metrics).parent
    runs.run_from_files(folder, snakemake.params.settings, **snakemake.input)
