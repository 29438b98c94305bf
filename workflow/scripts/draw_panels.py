"""Draw image, mask and anomaly map of every test image of a run."""

from promptad import panels
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads):
    panels.panels_from_files(
        snakemake.output[0], snakemake.params.resolution, **snakemake.input
    )
