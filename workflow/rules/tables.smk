"""From the metrics of all runs to the tables that people read."""

TABLE_NAMES = sorted({(dataset, task) for task, _, dataset, *_ in RUNS})
FORMATS = "csv", "md", "tex", "html"
WIDE_TABLES = [f"{dataset}_{task}" for dataset, task in TABLE_NAMES]
COMPARISON = ["comparison"] if len(config["experiments"]) > 1 else []
TABLES = [
    *(results(f"tables/metrics.{suffix}") for suffix in ("csv", "parquet")),
    *(
        results(f"tables/{name}.{suffix}")
        for name in ("parts", *COMPARISON, *WIDE_TABLES)
        for suffix in FORMATS
    ),
]
# (experiment, dataset, class, task, shots, seed) by metrics.json
RUN_OF = {
    path: (experiment, dataset, class_name, task, shots, seed)
    for path, (task, experiment, dataset, class_name, shots, seed) in zip(
        run_files(METRICS), RUNS, strict=True
    )
}
LITERATURE = workflow.source_path("../../config/literature.csv")
TABLE_OPTIONS = {
    "classes": {
        dataset: [name for place, name in FILES if place == dataset]
        for dataset in config["datasets"]
    },
    "experiments": list(config["experiments"]),
    "options": config["tables"],
}


rule tables:
    input:
        runs=list(RUN_OF),
        literature=LITERATURE,
    output:
        TABLES,
    log:
        f"{LOGS}/tables.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    params:
        **TABLE_OPTIONS,
        code=code("tables.py"),
    script:
        "../scripts/tables.py"


def write_incomplete_tables():
    """Tables of the runs that are there, after a call in which jobs failed.

    They name the runs that failed or needed something that did, and are left marked as
    incomplete, so that the next call writes them anew.
    """
    dag, unmade = workflow.dag, list(workflow.dag.needrun_jobs())
    groups = [job for job in workflow.scheduler.failed if job.is_group()]
    failed = workflow.scheduler.failed.union(*(group.jobs for group in groups))
    failed = failed.intersection(unmade)
    tables = [job for job in unmade if job.rule.name == "tables"]
    if not failed or not tables:
        return
    from promptad.tables import write_tables

    missing = {str(file) for job in unmade for file in job.output}
    lost = {str(file) for job in dag.bfs(dag.depending, *failed) for file in job.output}
    write_tables(
        results("tables"),
        [path for path in RUN_OF if path not in missing],
        literature=LITERATURE,
        failed=[run for path, run in RUN_OF.items() if path in lost],
        logs=sorted(str(file) for job in failed for file in job.log),
        **TABLE_OPTIONS,
    )
    workflow.persistence.started(tables[0])


onerror:
    write_incomplete_tables()
