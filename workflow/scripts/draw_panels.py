"""Draw image, mask and anomaly map of every test image of a class's runs."""

from fsad.jobs.job import job
from fsad.reports.panels import draw_class

with job(snakemake.log[0], snakemake.threads):
    draw_class(**snakemake.params.panels)
