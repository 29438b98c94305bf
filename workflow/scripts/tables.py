"""Gather the metrics of all runs into tables."""

from pathlib import Path

from promptad.jobs import job
from promptad.tables import planned_options, write_tables

with job(snakemake.log[0], snakemake.threads):
    folder = Path(snakemake.output[0]).parent
    runs, config = snakemake.input.runs, snakemake.config
    names = "classes", "experiments", "options"
    write_tables(
        folder,
        {path: planned_options(config, path) for path in runs},
        literature=snakemake.input.literature,
        **{name: snakemake.params[name] for name in names},
    )
