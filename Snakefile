"""Few-shot anomaly detection over every class of a data set, from images to tables.

Options: config/README.md. Usual call: snakemake --cores 40
"""

import sys

from snakemake.utils import min_version

min_version("9.0")


if not workflow.overwrite_configfiles:

    configfile: f"config/{'verify' if 'verify' in sys.argv else 'config'}.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: f"workflow/rules/{'train_together' if config['train_together'] else 'train'}.smk"
include: "workflow/rules/panels.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/failures.smk"
include: "workflow/rules/status.smk"
include: "workflow/rules/verify.smk"
include: "workflow/rules/demo_backbone.smk"


# On a cluster these run beside Snakemake: compute nodes seldom reach the hub of the
# weights, and the others are short.
localrules:
    all,
    backbone,
    demo_backbone,
    demo_data,
    report_examples,
    report_history,
    report_overview,
    report_records,
    report_scores,
    status,
    tables,
    verify,


onstart:
    if hold_results() and config["monitor"]:
        from promptad.monitor import start_monitor

        start_monitor(os.getpid(), results("monitor"), workflow.cores)


rule all:
    default_target: True
    input:
        TABLES,
        run_files(METRICS),
        PANELS,
        PREDICTIONS,
        PAGES,
