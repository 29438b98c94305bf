"""Runs: one a job (`train`), or all of an experiment and class (`train_class`).

The option `runs_per_job` decides. A run's bytes are the same in either.
"""

from itertools import product

METRICS = [run_path(TREE.metrics, run) for run in PLAN.runs]
PANELS = [run_path(TREE.panels, run) for run in PLAN.runs] if config["vis"] else []
ALONE = [name for name in config["experiments"] if PLAN.one_run_per_job(name)]
# Experiments without the runs of zero shots that others have.
FEW = [name for name in config["experiments"] if PLAN.skips_shots(name)]
MANY = [name for name in config["experiments"] if name not in FEW]
COMPLETE = any_of(PLAN.complete_classes())
# The runs of a class depend on the shots of its experiment and on its tasks: a rule for
# each combination, whose name has both suffixes.
BY_SHOTS = [("", MANY, True)]
if FEW and max(config["shots"]) > 0:  # a rule must have outputs
    BY_SHOTS.append(("_few", FEW, False))
BY_TASKS = [
    ("", config["tasks"], f"(?={COMPLETE})[^/]+"),
    ("_cls", ["cls"], f"(?!{COMPLETE})[^/]+"),
]


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


for (OF_SHOTS, NAMES, ZERO), (OF_TASKS, TASKS, DATASETS) in product(BY_SHOTS, BY_TASKS):

    rule:
        name:
            f"train_class{OF_SHOTS}{OF_TASKS}"
        input:
            run_inputs,
        output:
            update(class_outputs(TREE.metrics, TASKS, ZERO)),
        log:
            f"{TREE.logs}/train_class/{{experiment}}/{{dataset}}/{{class_name}}.log",
        benchmark:
            f"{TREE.benchmarks}/train_class/{{experiment}}/{{dataset}}/{{class_name}}.tsv"
        wildcard_constraints:
            experiment=any_of(name for name in NAMES if name not in ALONE),
            dataset=DATASETS,
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

    rule:
        name:
            f"draw_panels{OF_SHOTS}{OF_TASKS}"
        input:
            lambda w: [run_path(TREE.metrics, run) for run in runs_of(w)],
            drawn_files,
        output:
            [directory(path) for path in class_outputs(TREE.panels, TASKS, ZERO)],
        log:
            f"{TREE.logs}/draw_panels/{{experiment}}/{{dataset}}/{{class_name}}.log",
        wildcard_constraints:
            experiment=any_of(NAMES),
            dataset=DATASETS,
        conda:
            "../../envs/fsad.yaml"
        resources:
            **needs("draw_panels"),
        params:
            panels=lambda w: panels.panel_job(PLAN, w.experiment, place(w)),
            script=script_code("draw_panels"),
        script:
            "../scripts/draw_panels.py"
