"""What a job asks of a cluster: memory and time, from measurement, more at each attempt."""

from math import ceil

# On one core, with ViT-B-16-plus-240, 4 shots, maps of 256 x 256: peak memory in MB of
# a job and what 100 test images (those to predict) add to it; CPU minutes with 200 of
# them and 100 epochs.
MEASURED = {
    "backbone": (1550, 0, 0.1),
    "preprocess_test": (60, 33, 0.1),
    "preprocess_masks": (60, 13, 0.1),
    "preprocess_support": (65, 0, 0.1),
    "tokenize_prompts": (775, 0, 0.1),
    "embed_test": (1080, 520, 2.5),
    "embed_support": (1250, 120, 0.3),
    "train_cls": (1110, 0, 1.5),
    "train_seg": (1290, 170, 2),
    "train_together": (1290, 170, 2),
    "draw_panels": (80, 150, 0.1),
    "predict": (1300, 0, 2.5),
    "tables": (95, 0, 0.1),
}
# Of each further run in one job.
RUN_MB = 90
# Of Snakemake itself in the cluster job and in its step.
SNAKEMAKE_MB = 400


def needs(rule, settings=lambda wildcards: []):
    """Resources of a rule: a quarter more memory and four times the time of what was
    measured, and the multiple of it at each further attempt.

    settings: for trainings, what gives those of all runs of a job.
    """
    base, more, minutes = MEASURED[rule]

    def mem_mb(wildcards, attempt):
        peak = base + more * count_images(wildcards) / 100
        peak += RUN_MB * max(0, len(settings(wildcards)) - 1)
        return attempt * ceil(1.25 * peak) + SNAKEMAKE_MB

    def runtime(wildcards, attempt):
        images = max(1, count_images(wildcards) / 200)
        epochs = count_epochs(settings(wildcards)) / 100 or 1
        return attempt * ceil(2 + 4 * minutes * images * epochs)

    return {"mem_mb": mem_mb, "runtime": runtime}


def count_images(wildcards):
    if "prediction" in wildcards.keys():
        return len(images_to_predict(wildcards.prediction))
    if "class_name" in wildcards.keys():
        return len(FILES[wildcards.dataset, wildcards.class_name].test)
    return 0


def count_epochs(settings):
    return sum(run["options"]["epochs"] for run in settings)
