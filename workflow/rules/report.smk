"""The pages of the report; `snakemake --report FILE.html` binds them and the tables."""

REPORT = results("report")
PAIRS = list(
    dict.fromkeys((dataset, experiment) for _, experiment, dataset, *_ in RUNS)
)
RUN_PAGES = ["history", "examples"] + ["scores"] * ("cls" in config["tasks"])
PAGES = [
    *(f"{REPORT}/{dataset}/overview.html" for dataset in dict(PAIRS)),
    *(
        f"{REPORT}/{dataset}/{experiment}/{page}.html"
        for dataset, experiment in PAIRS
        for page in RUN_PAGES
    ),
    *(f"{REPORT}/{page}.html" for page in ("times", "settings") if RUNS),
]
PAIR_LABELS = {"data set": "{dataset}", "experiment": "{experiment}"}


rule report_overview:
    input:
        lambda w: run_files(METRICS, dataset=w.dataset),
    output:
        report(
            f"{REPORT}/{{dataset}}/overview.html",
            caption="../report/overview.rst",
            category="1 Overview",
            labels={"data set": "{dataset}"},
        ),
    log:
        f"{LOGS}/report_overview/{{dataset}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    params:
        experiments=list(config["experiments"]),
        classes=lambda w: [name for place, name in FILES if place == w.dataset],
        code=code("report_overview.py"),
    script:
        "../scripts/report_overview.py"


rule report_history:
    input:
        runs=lambda w: run_files(METRICS, **dict(w.items())),
        histories=lambda w: run_files(f"{RUN}/{{task}}/history.csv", **dict(w.items())),
    output:
        report(
            f"{REPORT}/{{dataset}}/{{experiment}}/history.html",
            caption="../report/history.rst",
            category="3 Training",
            labels=PAIR_LABELS,
        ),
    log:
        f"{LOGS}/report_history/{{dataset}}/{{experiment}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    params:
        code=code("report_history.py"),
    script:
        "../scripts/report_history.py"


rule report_scores:
    input:
        lambda w: run_files(METRICS, task="cls", **dict(w.items())),
        scores=ancient(
            lambda w: run_files(f"{RUN}/cls/scores.npz", task="cls", **dict(w.items()))
        ),
    output:
        report(
            f"{REPORT}/{{dataset}}/{{experiment}}/scores.html",
            caption="../report/scores.rst",
            category="4 Image scores",
            labels=PAIR_LABELS,
        ),
    log:
        f"{LOGS}/report_scores/{{dataset}}/{{experiment}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    params:
        code=code("report_scores.py"),
    script:
        "../scripts/report_scores.py"


rule report_examples:
    input:
        example_files(METRICS),
        example_files(f"{CACHE}/test_px{SIZE}.sha256"),
        example_masks("sha256"),
        scores=ancient(example_files(f"{RUN}/{{task}}/scores.npz")),
        images=ancient(example_files(f"{CACHE}/test_px{SIZE}.npz")),
        masks=ancient(example_masks("npz")),
    output:
        report(
            f"{REPORT}/{{dataset}}/{{experiment}}/examples.html",
            caption="../report/examples.rst",
            category="5 Anomaly maps",
            labels=PAIR_LABELS,
        ),
    log:
        f"{LOGS}/report_examples/{{dataset}}/{{experiment}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    params:
        resolution=config["resolution"],
        code=code("report_examples.py"),
    script:
        "../scripts/report_examples.py"


rule report_records:
    input:
        run_files(METRICS),
    output:
        times=report(
            f"{REPORT}/times.html",
            caption="../report/times.rst",
            category="6 Run",
            labels={"page": "Run times and cores"},
        ),
        settings=report(
            f"{REPORT}/settings.html",
            caption="../report/settings.rst",
            category="6 Run",
            labels={"page": "Settings and versions"},
        ),
    log:
        f"{LOGS}/report_records.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    params:
        benchmarks=BENCHMARKS,
        threads=config["threads"],
        code=code("report_records.py"),
    script:
        "../scripts/report_records.py"
