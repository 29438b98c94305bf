"""The pages of the report; `snakemake --report FILE.html` binds them and the tables."""

# Each page: what its menu shows beside it.
CATEGORIES = {
    "overview": "1 Overview",
    "history": "3 Training",
    "scores": "4 Image scores",
    "examples": "5 Anomaly maps",
    "times": "6 Run",
    "settings": "6 Run",
}
TITLES = {"times": "Run times and cores", "settings": "Settings and versions"}
PAGES = [f"{TREE.report}/{page}.html" for page in PLAN.pages()]


def menu_labels(page):
    """Data set, experiment and page by their names, of `DATASET/EXPERIMENT/PAGE`."""
    *names, name = page.split("/")
    keys = ("data set", "experiment")
    return dict(zip(keys, names)) or {"page": TITLES[name]}


rule report_pages:
    input:
        runs=METRICS,
        cached=lambda w: needed(PLAN.shown_of_all(), PLAN.has_report()),
    output:
        [
            report(
                f"{TREE.report}/{page}.html",
                caption=f"../report/{page.split('/')[-1]}.rst",
                category=CATEGORIES[page.split("/")[-1]],
                labels=menu_labels(page),
            )
            for page in PLAN.pages()
        ],
    log:
        f"{TREE.logs}/report_pages.log",
    conda:
        "../../envs/fsad.yaml"
    threads: 1
    resources:
        **needs("report_pages"),
    params:
        folder=TREE.report,
        record=PLAN.report(),
        cached=PLAN.shown_of_all(),
        order=PLAN.order(),
        jobs={"benchmarks": TREE.benchmarks, "threads": config["threads"]},
        script=script_code("report_pages"),
    script:
        "../scripts/report_pages.py"
