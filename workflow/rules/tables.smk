"""From the metrics of all runs to the tables that people read."""

from fsad.reports import menu

LITERATURE = workflow.source_path("../../config/literature.csv")
REFERENCES = workflow.source_path("../../config/references.bib")
NAMES = pages.table_names(PLAN)
TABLES = [
    *(f"{TREE.tables}/metrics.{suffix}" for suffix in ("csv", "parquet")),
    *(f"{TREE.tables}/{name}" for name in ("kinds.csv", "references.bib")),
    *(f"{TREE.tables}/{n}.{suffix}" for n in NAMES for suffix in ("csv", "md", "tex")),
]


rule tables:
    input:
        runs=METRICS,
        literature=LITERATURE,
        references=REFERENCES,
    output:
        TABLES,
        [
            report(
                f"{TREE.tables}/{name}.html",
                caption="../report/tables.rst",
                category=menu.TABLES,
                labels={"table": name.replace("_", " ")},
            )
            for name in NAMES
        ],
    log:
        f"{TREE.logs}/tables.log",
    conda:
        "../../envs/fsad.yaml"
    resources:
        **needs("tables"),
    params:
        order=pages.order(PLAN),
        options=config["tables"],
        runs=pages.report_record(PLAN)["runs"],
        code=code_digest("fsad.reports.tables"),
        script=script_code("tables"),
    script:
        "../scripts/tables.py"
