"""Print what is done and what a call of Snakemake would do."""

import json
import subprocess
import sys
import tempfile

from promptad.status import planned_jobs, report

config, params = snakemake.config, snakemake.params
with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    json.dump(config, file)
    file.flush()
    command = [sys.executable, "-m", "snakemake", "--snakefile", params.snakefile]
    command += ["--configfile", file.name, "--dry-run"]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
jobs = planned_jobs(run.stdout, config["results"])
print(report(params.runs, jobs, params.benchmarks))
