"""Frozen CLIP: its two towers, and what they see in the images, computed once."""


rule backbone:
    output:
        vision=f"{FEATURES}/vision.safetensors",
        text=f"{FEATURES}/text.safetensors",
        digest=f"{FEATURES}/towers.sha256",
    log:
        f"{LOGS}/backbone/{BACKBONE}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("backbone"),
    params:
        name=BACKBONE,
        code=code("backbone.py"),
    script:
        "../scripts/backbone.py"


rule embed_test:
    input:
        rules.backbone.output.digest,
        rules.preprocess_test.output.digest,
        tower=ancient(rules.backbone.output.vision),
        images=ancient(rules.preprocess_test.output.images),
    output:
        features=f"{CLASS_FEATURES}/test.npz",
        digest=f"{CLASS_FEATURES}/test.sha256",
    log:
        f"{LOGS}/embed_test/{{variant}}/{{dataset}}/{{class_name}}.log",
    benchmark:
        f"{BENCHMARKS}/embed_test/{{variant}}/{{dataset}}/{{class_name}}.tsv"
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
        rules.backbone.output.digest,
        rules.preprocess_support.output.digest,
        rules.embed_test.output.digest,
        tower=ancient(rules.backbone.output.vision),
        images=ancient(rules.preprocess_support.output.images),
        test=ancient(rules.embed_test.output.features),
    output:
        features=f"{CLASS_FEATURES}/support_k{{shots}}_s{{seed}}.npz",
        digest=f"{CLASS_FEATURES}/support_k{{shots}}_s{{seed}}.sha256",
    log:
        f"{LOGS}/embed_support/{{variant}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.log",
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
