"""The pages of the report; `snakemake --report FILE.html` binds them and the tables."""

PAGES = [f"{TREE.report}/{page}.html" for page in pages.page_names(PLAN)]
SHOWN = pages.shown_of_all(PLAN)


rule report_pages:
    input:
        runs=METRICS,
        cached=lambda w: needed([path for path, _ in SHOWN], pages.unmade_pages(PLAN)),
    output:
        [
            report(
                f"{TREE.report}/{page}.html",
                caption=f"../report/{page.split('/')[-1]}.rst",
                category=menu.category(page),
                labels=menu.labels(page),
            )
            for page in pages.page_names(PLAN)
        ],
    log:
        f"{TREE.logs}/report_pages.log",
    conda:
        "../../envs/fsad.yaml"
    resources:
        **needs("report_pages"),
    params:
        folder=lambda w, output: str(Path(output[-1]).parent),
        record=pages.report_record(PLAN),
        cached=SHOWN,
        order=pages.order(PLAN),
        jobs=pages.report_of_jobs(PLAN),
        script=script_code("report_pages"),
    script:
        "../scripts/report_pages.py"
