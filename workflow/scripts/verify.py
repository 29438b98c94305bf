"""Train one class in several ways and write down whether what is promised holds."""

import shutil
from pathlib import Path

from promptad import verify
from promptad.jobs import job

params, folder = snakemake.params, Path(snakemake.params.folder)
with job(snakemake.log[0], snakemake.threads, torch=snakemake.threads):
    shutil.rmtree(folder, ignore_errors=True)
    verify.write_checklist(
        verify.first_class(snakemake.config, folder, params.snakefile)
    )
