"""Gather the metrics of all runs into tables."""

from pathlib import Path

from fsad.jobs.job import job
from fsad.planning.options import planned_runs
from fsad.reports.tables import write_tables

with job(snakemake.log[0], snakemake.threads):
    params, runs = (
        snakemake.params,
        planned_runs(snakemake.config, snakemake.input.runs),
    )
    folder, known = Path(snakemake.output[0]).parent, snakemake.input
    write_tables(
        folder,
        runs,
        params.order,
        known.literature,
        params.options,
        references=known.references,
    )
