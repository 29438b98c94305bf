"""One training per experiment, class, number of shots, seed and task."""


rule train_cls:
    input:
        rules.backbone.output.digest,
        class_features("test.sha256"),
        class_features("support_k{shots}_s{seed}.sha256"),
        tower=ancient(rules.backbone.output.text),
        prompts=rules.tokenize_prompts.output[0],
        test=ancient(class_features("test.npz")),
        support=ancient(support_features("support_k{shots}_s{seed}.npz")),
    output:
        model=[f"{RUN}/cls/model.npz"],
        scores=[f"{RUN}/cls/scores.npz"],
        history=[f"{RUN}/cls/history.csv"],
        metrics=[f"{RUN}/cls/metrics.json"],
    log:
        f"{LOGS}/train_cls/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train_cls/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.tsv"
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("train_cls", settings_of("cls")),
        gpu=GPU,
    params:
        settings=settings_of("cls"),
        code=code("train.py"),
    script:
        "../scripts/train.py"


use rule train_cls as train_seg with:
    input:
        rules.backbone.output.digest,
        class_features("test.sha256"),
        class_features("support_k{shots}_s{seed}.sha256"),
        rules.preprocess_masks.output.digest,
        tower=ancient(rules.backbone.output.text),
        prompts=rules.tokenize_prompts.output[0],
        test=ancient(class_features("test.npz")),
        support=ancient(support_features("support_k{shots}_s{seed}.npz")),
        masks=ancient(rules.preprocess_masks.output.masks),
    output:
        model=[f"{RUN}/seg/model.npz"],
        scores=[f"{RUN}/seg/scores.npz"],
        history=[f"{RUN}/seg/history.csv"],
        metrics=[f"{RUN}/seg/metrics.json"],
    log:
        f"{LOGS}/train_seg/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train_seg/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.tsv"
    resources:
        **needs("train_seg", settings_of("seg")),
        gpu=GPU,
    params:
        settings=settings_of("seg"),
        code=code("train.py"),
