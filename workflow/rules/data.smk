"""Images, masks and words of each class, prepared once.

The content of images and masks, a digest among `params`, tells when they have changed,
not the time of a file. So does the small .sha256 beside each large file that a rule makes
for others: they read the large one as `ancient`, whatever its time, and follow the digest.
"""


rule preprocess_test:
    output:
        images=f"{CACHE}/test_px{SIZE}.npz",
        digest=f"{CACHE}/test_px{SIZE}.sha256",
    log:
        f"{LOGS}/preprocess_test/{{dataset}}/{{class_name}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("preprocess_test"),
    params:
        images=lambda w: test_set(w.dataset, w.class_name),
        size=SIZE,
        code=code("preprocess_test.py"),
    script:
        "../scripts/preprocess_test.py"


rule preprocess_masks:
    output:
        masks=f"{MASKS}.npz",
        digest=f"{MASKS}.sha256",
    log:
        f"{LOGS}/preprocess_masks/{{dataset}}/{{class_name}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("preprocess_masks"),
    params:
        images=lambda w: test_set(w.dataset, w.class_name),
        masks=lambda w: mask_set(w.dataset, w.class_name),
        resolution=config["resolution"],
        code=code("preprocess_masks.py"),
    script:
        "../scripts/preprocess_masks.py"


rule preprocess_support:
    output:
        images=f"{CACHE}/support_k{{shots}}_s{{seed}}_px{SIZE}.npz",
        digest=f"{CACHE}/support_k{{shots}}_s{{seed}}_px{SIZE}.sha256",
    log:
        f"{LOGS}/preprocess_support/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    resources:
        **needs("preprocess_support"),
    params:
        images=lambda w: support_set(w.dataset, w.class_name, w.shots, w.seed),
        size=SIZE,
        code=code("preprocess_support.py"),
    script:
        "../scripts/preprocess_support.py"


rule tokenize_prompts:
    output:
        f"{CACHE}/prompts.npz",
    log:
        f"{LOGS}/tokenize_prompts/{{dataset}}/{{class_name}}.log",
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
