"""Fetch CLIP through open_clip and store its two towers."""

from promptad import provenance
from promptad.backbone import load_backbone
from promptad.backbone_config import check_unchanged
from promptad.jobs import job
from promptad.transformer import save_tower, write_towers_digest

with job(snakemake.log[0], snakemake.threads, torch=snakemake.config["threads"]):
    backbone = snakemake.config["backbone"]
    check_unchanged(backbone, snakemake.params.name)
    name, code = snakemake.params.name, snakemake.params.code
    settings = provenance.settings(**backbone, backbone_name=name, code=code)
    vision, text = load_backbone(backbone)
    save_tower(snakemake.output.vision, vision, settings | {"part": "vision"})
    save_tower(snakemake.output.text, text, settings | {"part": "text"})
    write_towers_digest(snakemake.output.digest, vision, text)
