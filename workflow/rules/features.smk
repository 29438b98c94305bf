"""Frozen CLIP: its two towers, and what they see in the images, computed once."""


rule backbone:
    input:
        backbone_files,
    output:
        vision=f"{FEATURES}/vision.safetensors",
        text=f"{FEATURES}/text.safetensors",
    log:
        f"{LOGS}/backbone/{BACKBONE}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("backbone"),
    params:
        backbone=config["backbone"],
        name=BACKBONE,
        code=code("backbone.py"),
    script:
        "../scripts/backbone.py"


rule embed_test:
    input:
        tower=rules.backbone.output.vision,
        images=rules.preprocess_test.output[0],
    output:
        f"{CLASS_FEATURES}/test.npz",
    log:
        f"{LOGS}/embed_test/{{variant}}/{{dataset}}/{{class_name}}.log",
    benchmark:
        f"{BENCHMARKS}/embed_test/{{variant}}/{{dataset}}/{{class_name}}.tsv"
    group:
        "embed_{dataset}_{class_name}"
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("embed_test"),
        gpu=GPU,
    params:
        variant=lambda w: VARIANT_FIELDS[w.variant],
        device=config["device"],
        precision=config["precision"],
        code=code("embed_test.py"),
    script:
        "../scripts/embed_test.py"


rule embed_support:
    input:
        tower=rules.backbone.output.vision,
        images=rules.preprocess_support.output[0],
        test=rules.embed_test.output[0],
    output:
        f"{CLASS_FEATURES}/support_k{{shots}}_s{{seed}}.npz",
    log:
        f"{LOGS}/embed_support/{{variant}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.log",
    group:
        "embed_{dataset}_{class_name}"
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("embed_support"),
        gpu=GPU,
    params:
        variant=lambda w: VARIANT_FIELDS[w.variant],
        device=config["device"],
        precision=config["precision"],
        code=code("embed_support.py"),
    script:
        "../scripts/embed_support.py"
