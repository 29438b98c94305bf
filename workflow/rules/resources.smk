"""Memory and time that a job asks a cluster for: measured, and more at each attempt."""

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
# Of Snakemake itself in the cluster job and in its step.
SNAKEMAKE_MB = 400


def needs(rule, runs=lambda wildcards: []):
    """Resources of a rule: a quarter more memory and four times the time of what was
    measured, and the multiple of it at each further attempt.

    runs: the runs of a job that trains.
    """
    base, more, minutes = MEASURED[rule]

    def mem_mb(wildcards, attempt):
        peak = base + more * count_images(wildcards) / 100
        return attempt * ceil(1.25 * peak) + SNAKEMAKE_MB

    def runtime(wildcards, attempt):
        images = max(1, count_images(wildcards, PLAN.passes) / 200)
        epochs = [PLAN.run(run)["options"].get("epochs", 1) for run in runs(wildcards)]
        return attempt * ceil(2 + 4 * minutes * images * (sum(epochs) / 100 or 1))

    gpu = int(rule in USE_GPU and config["device"] != "cpu")
    return {"mem_mb": mem_mb, "runtime": runtime} | ({"gpu": gpu} if gpu else {})


def count_images(wildcards, weight=PLAN.tiles):
    """Images of a job, each counted as many times as its weight says."""
    if "prediction" in wildcards.keys():
        run = PLAN.predicting_run(wildcards.prediction)
        count = weight(run.experiment, (run.dataset, run.class_name))
        return count * len(PLAN.images_to_predict(wildcards.prediction))
    if "class_name" in wildcards.keys():
        counts = [weight(name, place(wildcards)) for name in config["experiments"]]
        return max(counts) * len(PLAN.classes[place(wildcards)].test)
    return 0
