"""Fetch CLIP through open_clip and store its two towers."""

from promptad.backbone import load_backbone
from promptad.jobs import job
from promptad.transformer import save_tower

with job(snakemake.log[0], snakemake.threads, torch=True):
    vision, text = load_backbone(snakemake.params.backbone)
    save_tower(snakemake.output.vision, vision)
    save_tower(snakemake.output.text, text)
