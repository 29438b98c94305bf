"""From the metrics of all runs to the tables that people read."""

TABLE_NAMES = sorted({(dataset, task) for task, _, dataset, *_ in RUNS})
FORMATS = "csv", "md", "tex", "html"
COMPARISON = ["comparison"] if len(config["experiments"]) > 1 else []
READ_TABLES = [
    *(f"{dataset}_{task}" for dataset, task in TABLE_NAMES),
    *("parts", *COMPARISON),
]
TABLES = [
    *(results(f"tables/metrics.{suffix}") for suffix in ("csv", "parquet")),
    *(results(f"tables/{name}.{suffix}") for name in READ_TABLES for suffix in FORMATS),
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
        [name for name in TABLES if not name.endswith(".html")],
        [
            report(
                results(f"tables/{name}.html"),
                caption="../report/tables.rst",
                category="2 Tables",
                labels={"table": name.replace("_", " ")},
            )
            for name in READ_TABLES
        ],
    log:
        f"{LOGS}/tables.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    resources:
        **needs("tables"),
    params:
        **TABLE_OPTIONS,
        code=code("tables.py"),
    script:
        "../scripts/tables.py"
