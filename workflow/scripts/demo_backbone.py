"""Train the demo's small CLIP from nothing."""

from promptad import pretraining
from promptad.compact import save_compact
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads, torch=snakemake.threads):
    options = pretraining.read_options(snakemake.input.options)
    states, threads = snakemake.params.states, snakemake.threads
    weights, numbers = pretraining.pretrain(options, states, threads)
    save_compact(snakemake.output[0], weights, numbers)
