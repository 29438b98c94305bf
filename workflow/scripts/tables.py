"""Gather the metrics of all runs into tables."""

from pathlib import Path

from promptad.jobs import job
from promptad.tables import planned, write_tables

with job(snakemake.log[0], snakemake.threads):
    folder = Path(snakemake.output[0]).parent
    names = "classes", "experiments", "options"
    write_tables(
        folder,
        {path: planned(snakemake.config, path) for path in snakemake.input.runs},
        literature=snakemake.input.literature,
        **{name: snakemake.params[name] for name in names},
    )
