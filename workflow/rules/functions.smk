"""Functions of the rules: keys of wildcards, inputs, tables after failures."""


def place(wildcards):
    return wildcards.dataset, wildcards.class_name


def needed(files, unmade):
    """Input files of a job; none where no output is unmade: all are as planned.

    The record in an artefact decides, not the time of a file it was made from, and a
    job that is in no need of files has nothing made for it. Where a job has failed,
    Snakemake leaves the files of before and forgets how they were made.
    """
    or_stop(internals.check_triggers, workflow)
    for path in unmade:
        internals.make_again(workflow, path)
    return files if unmade else []


def any_of(names):
    """A pattern for these names; none at all matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def runs_of(wildcards):
    """The runs of a job, which must be of the configuration."""
    keys = dict(wildcards.items())
    if "task" in keys:
        run = Run(**keys | {"shots": int(keys["shots"]), "seed": int(keys["seed"])})
        return [or_stop(PLAN.planned_run, run)]
    return PLAN.class_runs(wildcards.experiment, place(wildcards))


def run_inputs(wildcards):
    runs = runs_of(wildcards)
    return needed(disk.run_files(PLAN, runs), PLAN.unmade_runs(runs))


def of_seeds(pattern, view=("",)):
    """Paths of all seeds and views."""
    return [fill(pattern, seed=s, view=v) for v in view for s in config["seeds"]]


def class_outputs(pattern, tasks, zero):
    """Paths of all runs of a class; without `zero`, of those with support images."""
    return [
        fill(pattern, task=task, shots=shots, seed=seed)
        for task, shots, seed in PLAN.draws(tasks, zero)
    ]


def drawn_files(wildcards):
    """Cached images and masks that panels show."""
    files = panels.shown_files(PLAN, wildcards.experiment, place(wildcards))
    return needed(files, panels.unmade_panels(PLAN, runs_of(wildcards)))


def reader(wildcards):
    """An experiment that reads these features."""
    return PLAN.readers(place(wildcards))[wildcards.backbone, wildcards.readout]


def embeddings(wildcards):
    return PLAN.embeddings(reader(wildcards), place(wildcards))


def embedded_files(wildcards):
    """Cached images, and the tower that they pass."""
    images, features = zip(*embeddings(wildcards))
    files = [path for path, _ in (*images, PLAN.vision(reader(wildcards)))]
    return needed(files, disk.unmade(features))


def write_incomplete_tables():
    """Tables of the runs that are there, after a call in which jobs failed.

    They name the runs that failed or needed something that did, and are left marked as
    incomplete, so that the next call writes them anew.
    """
    failed = internals.failures(workflow, rules.tables.rule.name)
    if failed is None:
        return
    from fsad.reports.tables import write_tables

    made = [path for path in METRICS if path not in failed["missing"]]
    made = options.planned_runs(config, made)
    lost = [run for p, run in zip(METRICS, PLAN.runs) if p in failed["lost"]]
    known = TREE.tables, made, pages.order(PLAN), LITERATURE, config["tables"]
    try:
        write_tables(*known, references=REFERENCES, failed=lost, logs=failed["logs"])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    internals.mark_incomplete(workflow, rules.tables.rule.name)
