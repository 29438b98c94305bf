"""Load a backbone through its library and store its towers."""

from fsad.artifacts.provenance import with_provenance
from fsad.backbones.load import load_towers
from fsad.backbones.spec import check_unchanged, named_backbone
from fsad.backbones.tower import save_tower
from fsad.jobs.job import job

with (
    job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]),
    named_backbone(snakemake.params.name),
):
    backbone = snakemake.config["backbones"][snakemake.params.name]
    check_unchanged(backbone, snakemake.wildcards.backbone)
    towers = load_towers(backbone)
    for part, (path, record) in snakemake.params.towers.items():
        save_tower(path, towers[part], with_provenance(record))
