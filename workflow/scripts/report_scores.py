"""Draw the image scores of an experiment."""

from promptad.jobs import job
from promptad.report import write_scores

with job(snakemake.log[0], snakemake.threads):
    write_scores(snakemake.output[0], snakemake.input.scores)
