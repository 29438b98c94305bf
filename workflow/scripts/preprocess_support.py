"""Draw, decode and resize the support images of a class."""

from promptad import images, layouts, provenance, storage
from promptad.jobs import job
from promptad.support import draw_support

with job(snakemake.log[0], snakemake.threads):
    size, name = snakemake.params.size, snakemake.wildcards.class_name
    source = snakemake.config["datasets"][snakemake.wildcards.dataset]
    draw = {key: int(snakemake.wildcards[key]) for key in ("shots", "seed")}
    train = layouts.list_class(source["layout"], source["root"], name).train
    samples = draw_support(train, name, names=list(snakemake.params.images), **draw)
    arrays = images.load_images(samples, size, snakemake.threads)
    settings = provenance.settings(
        **snakemake.wildcards, size=size, code=snakemake.params.code
    )
    output = snakemake.output
    storage.write_npz(output.images, arrays, settings, output.digest)
