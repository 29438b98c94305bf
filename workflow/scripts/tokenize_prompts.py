"""Turn the words and abnormal states of all classes into token numbers."""

from fsad.data.words import write_tokens
from fsad.jobs.job import job

with job(snakemake.log[0], snakemake.threads):
    for target in snakemake.params.prompts:
        write_tokens(target)
