"""Frozen backbones, and the features of images that they give, computed once."""


rule backbone:
    output:
        vision=fill(TREE.vision, **FEATURES),
        text=fill(TREE.text, **FEATURES),
    log:
        f"{TREE.logs}/backbone/{PLAN.backbone}.log",
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("backbone"),
    params:
        vision=PLAN.tower("vision"),
        text=PLAN.tower("text"),
        script=script_code("backbone"),
    script:
        "../scripts/backbone.py"


rule embed:
    input:
        embedded_files,
    output:
        test=update(fill(TREE.test_features, **FEATURES)),
        support=update(of_seeds(TREE.support_features, **FEATURES)),
    log:
        f"{TREE.logs}/embed/{{readout}}/{{dataset}}/{{class_name}}.log",
    benchmark:
        f"{TREE.benchmarks}/embed/{{readout}}/{{dataset}}/{{class_name}}.tsv"
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("embed"),
    params:
        tower=PLAN.tower("vision"),
        work=embeddings,
        script=script_code("embed"),
    script:
        "../scripts/embed.py"
