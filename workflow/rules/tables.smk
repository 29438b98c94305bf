"""From the metrics of all runs to the tables that people read."""

LITERATURE = workflow.source_path("../../config/literature.csv")
NAMES = PLAN.table_names()
TABLES = [
    *(f"{TREE.tables}/metrics.{suffix}" for suffix in ("csv", "parquet")),
    *(f"{TREE.tables}/{n}.{suffix}" for n in NAMES for suffix in ("csv", "md", "tex")),
]


rule tables:
    input:
        runs=METRICS,
        literature=LITERATURE,
    output:
        TABLES,
        [
            report(
                f"{TREE.tables}/{name}.html",
                caption="../report/tables.rst",
                category="2 Tables",
                labels={"table": name.replace("_", " ")},
            )
            for name in NAMES
        ],
    log:
        f"{TREE.logs}/tables.log",
    conda:
        "../../envs/fsad.yaml"
    threads: 1
    resources:
        **needs("tables"),
    params:
        order=PLAN.order(),
        options=config["tables"],
        runs=PLAN.report()["runs"],
        code=code_digest("fsad.reports.tables"),
        script=script_code("tables"),
    script:
        "../scripts/tables.py"


def write_incomplete_tables():
    """Tables of the runs that are there, after a call in which jobs failed.

    They name the runs that failed or needed something that did, and are left marked as
    incomplete, so that the next call writes them anew.
    """
    failed = internals.failures(workflow, rules.tables.rule.name)
    if failed is None:
        return
    from fsad.reports.tables import write_tables

    paths = dict(zip(METRICS, PLAN.runs, strict=True))
    try:
        write_tables(
            TREE.tables,
            planned_runs(config, [p for p in METRICS if p not in failed["missing"]]),
            PLAN.order(),
            LITERATURE,
            config["tables"],
            failed=[run for path, run in paths.items() if path in failed["lost"]],
            logs=failed["logs"],
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    internals.mark_incomplete(workflow, rules.tables.rule.name)
