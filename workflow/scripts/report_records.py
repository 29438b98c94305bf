"""Tell time, cores and memory of all recorded jobs, and the settings of all runs."""

from promptad.jobs import job
from promptad.records import write_settings, write_times

with job(snakemake.log[0], snakemake.threads):
    params = snakemake.params
    write_times(snakemake.output.times, params.benchmarks, params.threads)
    write_settings(snakemake.output.settings, snakemake.input)
