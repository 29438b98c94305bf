"""Memory, time and GPUs of a job, see `fsad.planning.resources`."""

from fsad.planning import counts, resources


def needs(rule, runs=lambda wildcards: []):
    """Resources of a rule. runs: the runs of a job that trains."""

    def mem_mb(wildcards, attempt):
        return resources.memory(rule, count_images(wildcards, counts.tiles), attempt)

    def runtime(wildcards, attempt):
        epochs = [PLAN.run(run)["options"].get("epochs", 1) for run in runs(wildcards)]
        images = count_images(wildcards, counts.passes)
        return resources.minutes(rule, images, epochs, attempt)

    uses_gpu = rule in resources.USE_GPU and config["device"] != "cpu"
    return {"mem_mb": mem_mb, "runtime": runtime} | ({"gpu": 1} if uses_gpu else {})


def count_images(wildcards, weight):
    """Images of a job, each counted as many times as its weight says."""
    if "prediction" in wildcards.keys():
        return counts.count_images_to_predict(PLAN, wildcards.prediction, weight)
    if "class_name" in wildcards.keys():
        return counts.count_test_images(PLAN, place(wildcards), weight)
    return 0
