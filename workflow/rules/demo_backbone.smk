"""The demo's small CLIP, trained from nothing; its result is shipped, see README."""


rule demo_backbone:
    input:
        options="config/demo_backbone.yaml",
        model="config/backbones/demo.json",
    output:
        results("demo_backbone/demo.safetensors"),
    log:
        f"{LOGS}/demo_backbone.log",
    benchmark:
        f"{BENCHMARKS}/demo_backbone.tsv"
    conda:
        "../../envs/promptad.yaml"
    threads: lambda w: workflow.cores
    params:
        states=config["states"],
        code=code("demo_backbone.py"),
    script:
        "../scripts/demo_backbone.py"
