"""Draw the means and every class of a data set."""

from promptad.jobs import job
from promptad.report import write_overview

with job(snakemake.log[0], snakemake.threads):
    write_overview(
        snakemake.output[0],
        snakemake.input,
        snakemake.params.experiments,
        snakemake.params.classes,
    )
