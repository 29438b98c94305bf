"""What is done and what is left: snakemake --cores 1 status"""


rule status:
    log:
        f"{LOGS}/status.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    params:
        snakefile=workflow.main_snakefile,
        runs=RUN_OF,
        benchmarks=BENCHMARKS,
    script:
        "../scripts/status.py"
