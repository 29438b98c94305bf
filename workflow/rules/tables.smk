"""From the metrics of all runs to the tables that people read."""

TABLE_NAMES = sorted({(dataset, task) for task, _, dataset, *_ in RUNS})
WIDE_TABLES = [
    results(f"tables/{dataset}_{task}.{suffix}")
    for dataset, task in TABLE_NAMES
    for suffix in ("csv", "md")
]
LONG_TABLES = [
    results(f"tables/{name}") for name in ("metrics.csv", "parts.csv", "parts.md")
]
TABLES = [*LONG_TABLES, *WIDE_TABLES]


rule tables:
    input:
        run_files(f"{RUN}/{{task}}/metrics.json"),
    output:
        TABLES,
    log:
        f"{LOGS}/tables.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    params:
        classes={
            dataset: [name for place, name in FILES if place == dataset]
            for dataset in config["datasets"]
        },
        code=code("tables.py"),
    script:
        "../scripts/tables.py"
