"""Show the defects that an experiment finds best and worst."""

from promptad.examples import write_examples
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads):
    write_examples(snakemake.output[0], snakemake.params.resolution, **snakemake.input)
