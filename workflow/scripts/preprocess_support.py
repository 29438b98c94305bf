"""Draw, decode and resize the support images of a class."""

from promptad import images, layouts, provenance, storage
from promptad.jobs import job
from promptad.support import draw_support

with job(snakemake.log[0], snakemake.threads):
    source, size = snakemake.params.source, snakemake.params.size
    name = snakemake.wildcards.class_name
    draw = {key: int(snakemake.wildcards[key]) for key in ("shots", "seed")}
    train = layouts.list_class(**source, name=name).train
    samples = draw_support(train, name, names=snakemake.params.names, **draw)
    arrays = images.load_images(samples, size, snakemake.threads)
    settings = provenance.settings(source=source, name=name, size=size, **draw)
    storage.write_npz(snakemake.output[0], arrays, settings)
