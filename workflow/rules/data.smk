"""Images, masks and words of each class, prepared once."""


rule preprocess_test:
    input:
        test_images,
    output:
        f"{CACHE}/test_px{SIZE}.npz",
    log:
        f"{LOGS}/preprocess_test/{{dataset}}/{{class_name}}.log",
    group:
        "prepare_{dataset}_{class_name}"
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("preprocess_test"),
    params:
        source=class_source,
        size=SIZE,
        code=code("preprocess_test.py"),
    script:
        "../scripts/preprocess_test.py"


rule preprocess_masks:
    input:
        images=test_images,
        masks=test_masks,
    output:
        MASKS,
    log:
        f"{LOGS}/preprocess_masks/{{dataset}}/{{class_name}}.log",
    group:
        "prepare_{dataset}_{class_name}"
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("preprocess_masks"),
    params:
        source=class_source,
        resolution=config["resolution"],
        code=code("preprocess_masks.py"),
    script:
        "../scripts/preprocess_masks.py"


rule preprocess_support:
    input:
        support_images,
    output:
        f"{CACHE}/support_k{{shots}}_s{{seed}}_px{SIZE}.npz",
    log:
        f"{LOGS}/preprocess_support/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.log",
    group:
        "prepare_{dataset}_{class_name}"
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    resources:
        **needs("preprocess_support"),
    params:
        source=class_source,
        size=SIZE,
        names=lambda w: class_override(config, w.dataset, w.class_name).get("support"),
        code=code("preprocess_support.py"),
    script:
        "../scripts/preprocess_support.py"


rule tokenize_prompts:
    output:
        f"{CACHE}/prompts.npz",
    log:
        f"{LOGS}/tokenize_prompts/{{dataset}}/{{class_name}}.log",
    group:
        "prepare_{dataset}_{class_name}"
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    resources:
        **needs("tokenize_prompts"),
    params:
        prompts=lambda w: class_prompts(config, w.dataset, w.class_name),
        code=code("tokenize_prompts.py"),
    script:
        "../scripts/tokenize_prompts.py"
