"""Write all pages of the report."""

from fsad.jobs.job import job
from fsad.planning.options import planned_runs
from fsad.reports.report import write_report

with job(snakemake.log[0], snakemake.threads):
    params, cached = snakemake.params, snakemake.input.cached
    metrics = [path for path in snakemake.input if path not in set(cached)]
    runs = planned_runs(snakemake.config, metrics)
    write_report(params.folder, runs, params.order, cached, params.jobs)
