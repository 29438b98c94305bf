"""The pages of the report; `snakemake --report FILE.html` binds them and the tables."""

PAGES = [f"{TREE.report}/{page}.html" for page in PLAN.pages()]
SHOWN = PLAN.shown_of_all()


rule report_pages:
    input:
        runs=METRICS,
        cached=lambda w: needed([path for path, _ in SHOWN], PLAN.has_report()),
    output:
        [
            report(
                f"{TREE.report}/{page}.html",
                caption=f"../report/{page.split('/')[-1]}.rst",
                category=menu.category(page),
                labels=menu.labels(page),
            )
            for page in PLAN.pages()
        ],
    log:
        f"{TREE.logs}/report_pages.log",
    conda:
        "../../envs/fsad.yaml"
    resources:
        **needs("report_pages"),
    params:
        folder=lambda w, output: str(Path(output[-1]).parent),
        record=PLAN.report(),
        cached=SHOWN,
        order=PLAN.order(),
        jobs=PLAN.report_of_jobs(),
        script=script_code("report_pages"),
    script:
        "../scripts/report_pages.py"
