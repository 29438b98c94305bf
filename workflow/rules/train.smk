"""One training per experiment, class, number of shots, seed and task."""


rule train_cls:
    input:
        tower=rules.backbone.output.text,
        prompts=rules.tokenize_prompts.output[0],
        test=class_features("test.npz"),
        support=class_features("support_k{shots}_s{seed}.npz"),
    output:
        model=f"{RUN}/cls/model.npz",
        scores=f"{RUN}/cls/scores.npz",
        history=f"{RUN}/cls/history.csv",
        metrics=f"{RUN}/cls/metrics.json",
    log:
        f"{LOGS}/train_cls/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train_cls/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.tsv"
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    params:
        settings=settings_of("cls"),
        code=code("train.py"),
    script:
        "../scripts/train.py"


use rule train_cls as train_seg with:
    input:
        tower=rules.backbone.output.text,
        prompts=rules.tokenize_prompts.output[0],
        test=class_features("test.npz"),
        support=class_features("support_k{shots}_s{seed}.npz"),
        masks=MASKS,
    output:
        model=f"{RUN}/seg/model.npz",
        scores=f"{RUN}/seg/scores.npz",
        history=f"{RUN}/seg/history.csv",
        metrics=f"{RUN}/seg/metrics.json",
    log:
        f"{LOGS}/train_seg/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train_seg/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}.tsv"
    params:
        settings=settings_of("seg"),
        code=code("train.py"),


rule draw_panels:
    input:
        images=rules.preprocess_test.output[0],
        scores=f"{RUN}/{{task}}/scores.npz",
        masks=panel_masks,
    output:
        directory(f"{RUN}/{{task}}/vis"),
    log:
        f"{LOGS}/draw_panels/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}_{{task}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    params:
        resolution=config["resolution"],
        code=code("draw_panels.py"),
    script:
        "../scripts/draw_panels.py"


PANELS = run_files(f"{RUN}/{{task}}/vis") if config["vis"] else []
