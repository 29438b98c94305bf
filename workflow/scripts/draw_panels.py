"""Draw image, mask and anomaly map of every test image of a run."""

from promptad import panels
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads):
    resolution, place = snakemake.params.resolution, dict(snakemake.wildcards.items())
    panels.panels_from_files(snakemake.output[0], resolution, place, **snakemake.input)
