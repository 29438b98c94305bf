"""Fetch CLIP through open_clip and store its two towers."""

from fsad.artifacts.provenance import with_provenance
from fsad.backbones.clip import load_backbone
from fsad.backbones.spec import check_unchanged
from fsad.backbones.tower import save_tower
from fsad.jobs.job import job

with job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]):
    backbone, targets = snakemake.config["backbone"], snakemake.params[:2]
    check_unchanged(backbone, targets[0].record["backbone"])
    towers = load_backbone(backbone)
    for (path, record), tower in zip(targets, towers, strict=True):
        save_tower(path, tower, with_provenance(record))
