"""Write all pages of the report."""

from fsad.artifacts.files import write_record
from fsad.artifacts.paths import RECORD
from fsad.jobs.job import job
from fsad.planning.options import planned_runs
from fsad.reports.report import write_report

with job(snakemake.log[0], snakemake.threads):
    params, folder = snakemake.params, snakemake.params.folder
    runs = planned_runs(snakemake.config, snakemake.input.runs)
    write_report(folder, runs, params.order, params.cached, params.jobs)
    write_record(f"{folder}/{RECORD}", params.record)
