"""Runs: one a job (`train`), or all of an experiment and class (`train_class`).

The option `runs_per_job` decides. A run's bytes are the same in either.
"""

METRICS = [run_path(TREE.metrics, run) for run in PLAN.runs]


def any_of(names):
    """A pattern for these names; none at all matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


ALONE = [name for name in config["experiments"] if PLAN.one_run_per_job(name)]
TOGETHER = [name for name in config["experiments"] if name not in ALONE]
# Classes with the data for all tasks, as the start of a path.
COMPLETE = any_of(
    f"{dataset}/{class_name}/"
    for dataset, class_name in PLAN.classes
    if PLAN.tasks((dataset, class_name)) == config["tasks"]
)


def runs_of(wildcards):
    """The runs of a job."""
    if "task" in wildcards.keys():
        return [run_of(wildcards)]
    return PLAN.class_runs(wildcards.experiment, place(wildcards))


def run_job(wildcards):
    return PLAN.run_job(runs_of(wildcards))._asdict()


def run_inputs(wildcards):
    runs = runs_of(wildcards)
    return needed(PLAN.run_job(runs).inputs(), all(map(PLAN.has_run, runs)))


def class_outputs(pattern, tasks):
    """Paths of all runs of a class, with wildcards for experiment and class."""
    return [fill(pattern, task=t, shots=k, seed=s) for t, k, s in PLAN.draws(tasks)]


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
        gpu=GPU,
    params:
        job=run_job,
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
        experiment=any_of(TOGETHER),
        dataset=f"(?={COMPLETE})[^/]+",


# Classes without masks.
use rule train_class as train_class_cls with:
    output:
        update(class_outputs(TREE.metrics, ["cls"])),
    wildcard_constraints:
        experiment=any_of(TOGETHER),
        dataset=f"(?!{COMPLETE})[^/]+",


def class_metrics(wildcards):
    runs = PLAN.class_runs(wildcards.experiment, place(wildcards))
    return [run_path(TREE.metrics, run) for run in runs]


def drawn_files(wildcards):
    """Cached images and masks that panels show."""
    runs = PLAN.class_runs(wildcards.experiment, place(wildcards))
    files = PLAN.shown_files(place(wildcards))
    return needed(files, all(map(PLAN.has_panels, runs)))


rule draw_panels:
    input:
        class_metrics,
        drawn_files,
    output:
        [directory(path) for path in class_outputs(TREE.panels, config["tasks"])],
    log:
        f"{TREE.logs}/draw_panels/{{experiment}}/{{dataset}}/{{class_name}}.log",
    wildcard_constraints:
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
        dataset=f"(?!{COMPLETE})[^/]+",


PANELS = [run_path(TREE.panels, run) for run in PLAN.runs] if config["vis"] else []
