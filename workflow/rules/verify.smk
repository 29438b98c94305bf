"""Does it do here what it promises? snakemake --cores 2 verify"""


rule demo_data:
    output:
        directory("results/demo/data"),
    log:
        f"{LOGS}/demo_data.log",
    conda:
        "../../envs/promptad.yaml"
    params:
        code=code("demo_data.py"),
    script:
        "../scripts/demo_data.py"


rule verify:
    input:
        set(source["root"] for source in config["datasets"].values())
        & set(rules.demo_data.output),
    log:
        f"{LOGS}/verify.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 2
    params:
        snakefile=workflow.main_snakefile,
        folder=results("verify"),
    script:
        "../scripts/verify.py"
