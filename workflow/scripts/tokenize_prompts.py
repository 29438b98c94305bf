"""Turn the words and abnormal states of a class into token numbers."""

from promptad import prompts, provenance, storage
from promptad.jobs import job

with job(snakemake.log[0], snakemake.threads):
    words = snakemake.params.prompts
    tokens = prompts.tokenize(words["text"], words["states"])
    place, code = snakemake.wildcards, snakemake.params.code
    settings = provenance.settings(**place, **words, code=code)
    storage.write_npz(snakemake.output[0], tokens, settings)
