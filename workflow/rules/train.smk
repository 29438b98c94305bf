"""Runs: one a job (`train`), or all of an experiment and class (`train_class`).

The option `runs_per_job` decides. A run's bytes are the same in either.
"""

METRICS = [run_path(TREE.metrics, run) for run in PLAN.runs]


ALONE = [name for name in config["experiments"] if PLAN.one_run_per_job(name)]
TOGETHER = [name for name in config["experiments"] if name not in ALONE]
# Experiments without the runs of zero shots that others have.
FEW = [name for name in config["experiments"] if PLAN.skips_shots(name)]
MANY = [name for name in config["experiments"] if name not in FEW]
# Classes with the data for all tasks, as the start of a path.
COMPLETE = any_of(
    f"{dataset}/{class_name}/"
    for dataset, class_name in PLAN.classes
    if PLAN.tasks((dataset, class_name)) == config["tasks"]
)


rule train:
    input:
        run_inputs,
    output:
        TREE.metrics,
    log:
        f"{TREE.logs}/train/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}_{{task}}.log",
    benchmark:
        f"{TREE.benchmarks}/train/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}_{{task}}.tsv"
    wildcard_constraints:
        experiment=any_of(ALONE),
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("train", runs_of),
    params:
        job=lambda w: PLAN.run_job(runs_of(w))._asdict(),
        script=script_code("train"),
    script:
        "../scripts/train.py"


use rule train as train_class with:
    output:
        update(class_outputs(TREE.metrics, config["tasks"])),
    log:
        f"{TREE.logs}/train_class/{{experiment}}/{{dataset}}/{{class_name}}.log",
    benchmark:
        f"{TREE.benchmarks}/train_class/{{experiment}}/{{dataset}}/{{class_name}}.tsv"
    wildcard_constraints:
        experiment=any_of(name for name in TOGETHER if name in MANY),
        dataset=f"(?={COMPLETE})[^/]+",


# Classes without masks.
use rule train_class as train_class_cls with:
    output:
        update(class_outputs(TREE.metrics, ["cls"])),
    wildcard_constraints:
        experiment=any_of(name for name in TOGETHER if name in MANY),
        dataset=f"(?!{COMPLETE})[^/]+",


rule draw_panels:
    input:
        class_metrics,
        drawn_files,
    output:
        [directory(path) for path in class_outputs(TREE.panels, config["tasks"])],
    log:
        f"{TREE.logs}/draw_panels/{{experiment}}/{{dataset}}/{{class_name}}.log",
    wildcard_constraints:
        experiment=any_of(MANY),
        dataset=f"(?={COMPLETE})[^/]+",
    conda:
        "../../envs/fsad.yaml"
    threads: 1
    resources:
        **needs("draw_panels"),
    params:
        panels=lambda w: PLAN.panel_job(w.experiment, place(w)),
        script=script_code("draw_panels"),
    script:
        "../scripts/draw_panels.py"


use rule draw_panels as draw_panels_cls with:
    output:
        [directory(path) for path in class_outputs(TREE.panels, ["cls"])],
    wildcard_constraints:
        experiment=any_of(MANY),
        dataset=f"(?!{COMPLETE})[^/]+",


# The same without the runs of zero shots; a rule must have outputs.
if FEW and max(config["shots"]) > 0:

    use rule train_class as train_class_few with:
        output:
            update(class_outputs(TREE.metrics, config["tasks"], zero=False)),
        wildcard_constraints:
            experiment=any_of(name for name in TOGETHER if name in FEW),
            dataset=f"(?={COMPLETE})[^/]+",

    use rule train_class as train_class_few_cls with:
        output:
            update(class_outputs(TREE.metrics, ["cls"], zero=False)),
        wildcard_constraints:
            experiment=any_of(name for name in TOGETHER if name in FEW),
            dataset=f"(?!{COMPLETE})[^/]+",

    use rule draw_panels as draw_panels_few with:
        output:
            [
                directory(path)
                for path in class_outputs(TREE.panels, config["tasks"], zero=False)
            ],
        wildcard_constraints:
            experiment=any_of(FEW),
            dataset=f"(?={COMPLETE})[^/]+",

    use rule draw_panels as draw_panels_few_cls with:
        output:
            [
                directory(path)
                for path in class_outputs(TREE.panels, ["cls"], zero=False)
            ],
        wildcard_constraints:
            experiment=any_of(FEW),
            dataset=f"(?!{COMPLETE})[^/]+",


PANELS = [run_path(TREE.panels, run) for run in PLAN.runs] if config["vis"] else []
