"""One training job per experiment and class, for all its shots, seeds and tasks."""

import re
from itertools import product

MASKED = ["(?!)"] + [  # the first, for where no class has masks, matches nothing
    re.escape(f"{dataset}/{class_name}/")
    for (dataset, class_name), files in FILES.items()
    if class_tasks(config, files) == config["tasks"]
]


def runs_together(tasks):
    """(task, shots, seed) of each run of a job."""
    return list(product(tasks, config["shots"], config["seeds"]))


def outputs(tasks, file):
    return [
        RUN.replace("{shots}", f"{shots}").replace("{seed}", f"{seed}")
        + f"/{task}/{file}"
        for task, shots, seed in runs_together(tasks)
    ]


def supports(tasks, suffix):
    runs = runs_together(tasks)
    files = [f"support_k{shots}_s{seed}.{suffix}" for _, shots, seed in runs]
    return support_features(*files)


def settings_together(tasks):
    keys = "task", "shots", "seed"
    return lambda w: [
        run_settings(
            config, BACKBONE, **dict(zip(keys, run, strict=True)), **dict(w.items())
        )
        for run in runs_together(tasks)
    ]


rule train_together:
    input:
        rules.backbone.output.digest,
        class_features("test.sha256"),
        supports(config["tasks"], "sha256"),
        rules.preprocess_masks.output.digest if "seg" in config["tasks"] else [],
        tower=ancient(rules.backbone.output.text),
        prompts=rules.tokenize_prompts.output[0],
        test=ancient(class_features("test.npz")),
        support=ancient(supports(config["tasks"], "npz")),
        masks=(
            ancient(rules.preprocess_masks.output.masks)
            if "seg" in config["tasks"]
            else []
        ),
    output:
        model=outputs(config["tasks"], "model.npz"),
        scores=outputs(config["tasks"], "scores.npz"),
        history=outputs(config["tasks"], "history.csv"),
        metrics=outputs(config["tasks"], "metrics.json"),
    log:
        f"{LOGS}/train_together/{{experiment}}/{{dataset}}/{{class_name}}.log",
    benchmark:
        f"{BENCHMARKS}/train_together/{{experiment}}/{{dataset}}/{{class_name}}.tsv"
    wildcard_constraints:
        dataset=f"(?={'|'.join(MASKED)})[^/]+",
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("train_together", settings_together(config["tasks"])),
        gpu=GPU,
    params:
        settings=settings_together(config["tasks"]),
        code=code("train.py"),
    script:
        "../scripts/train.py"


# Classes without masks.
use rule train_together as train_together_cls with:
    input:
        rules.backbone.output.digest,
        class_features("test.sha256"),
        supports(["cls"], "sha256"),
        tower=ancient(rules.backbone.output.text),
        prompts=rules.tokenize_prompts.output[0],
        test=ancient(class_features("test.npz")),
        support=ancient(supports(["cls"], "npz")),
    output:
        model=outputs(["cls"], "model.npz"),
        scores=outputs(["cls"], "scores.npz"),
        history=outputs(["cls"], "history.csv"),
        metrics=outputs(["cls"], "metrics.json"),
    wildcard_constraints:
        dataset=f"(?!{'|'.join(MASKED)})[^/]+",
    resources:
        **needs("train_cls", settings_together(["cls"])),
        gpu=GPU,
    params:
        settings=settings_together(["cls"]),
        code=code("train.py"),
