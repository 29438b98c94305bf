"""Memory and time that a job asks a cluster for: measured, and more at each attempt."""

from collections.abc import Sequence
from math import ceil

# On one core, with ViT-B-16-plus-240, 4 shots, maps of 256 x 256: peak memory in MB of
# a job and what 100 test images (those to predict) add to it; CPU minutes with 200 of
# them and 100 epochs.
MEASURED = {
    "backbone": (1550, 0, 0.1),
    "prepare": (65, 33, 0.1),
    "prepare_masks": (60, 13, 0.1),
    "tokenize_prompts": (775, 0, 0.1),
    "embed": (1250, 520, 2.8),
    "train": (1900, 290, 2.2),
    "draw_panels": (80, 150, 0.1),
    "predict": (1300, 0, 2.5),
    "tables": (95, 0, 0.1),
    "report_pages": (200, 10, 2),
}
USE_GPU = "embed", "train", "predict"
SNAKEMAKE_MB = 400  # of Snakemake itself in the cluster job and in its step


def memory(rule: str, images: int, attempt: int) -> int:
    """MB of a job: a quarter more than measured, the multiple at further attempts.

    images: test images, or those to predict; of tiles, each counts as many times as it
    has tiles.
    """
    base, more, _ = MEASURED[rule]
    return attempt * ceil(1.25 * (base + more * images / 100)) + SNAKEMAKE_MB


def minutes(rule: str, images: int, epochs: Sequence[int], attempt: int) -> int:
    """Minutes of a job: four times those measured, the multiple at further attempts.

    images: each counts as the passes of the backbone that it takes. epochs: of each
    run of a job that trains, 1 without training.
    """
    _, _, measured = MEASURED[rule]
    factor = max(1, images / 200) * (sum(epochs) / 100 or 1)
    return attempt * ceil(2 + 4 * measured * factor)
