"""Generate the demo's images."""

from pathlib import Path

from promptad.demo import write_demo
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads):
    write_demo(Path(snakemake.output[0]))
