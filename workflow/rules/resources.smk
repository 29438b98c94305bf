"""Memory, time and GPUs of a job, see `fsad.planning.resources`."""

from fsad.planning import counts, resources


def needs(rule, runs=lambda wildcards: []):
    """Resources of a rule. runs: the runs of a job that trains."""

    def mem_mb(wildcards, attempt):
        images = counts.count_images(PLAN, dict(wildcards.items()), counts.tiles)
        return resources.memory(rule, images, attempt)

    def runtime(wildcards, attempt):
        epochs = [PLAN.run(run)["options"].get("epochs", 1) for run in runs(wildcards)]
        images = counts.count_images(PLAN, dict(wildcards.items()), counts.passes)
        return resources.minutes(rule, images, epochs, attempt)

    uses_gpu = rule in resources.USE_GPU and config["device"] != "cpu"
    return {"mem_mb": mem_mb, "runtime": runtime} | ({"gpu": 1} if uses_gpu else {})
