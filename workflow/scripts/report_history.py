"""Draw the AUROC over the epochs of an experiment."""

from promptad.jobs import job
from promptad.report import write_history

with job(snakemake.log[0], snakemake.threads):
    write_history(snakemake.output[0], **snakemake.input)
