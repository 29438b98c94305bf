"""Pictures of what a run found, with `vis: true`."""


rule draw_panels:
    input:
        rules.preprocess_test.output.digest,
        panel_masks("sha256"),
        f"{RUN}/{{task}}/history.csv",
        METRICS,
        images=ancient(rules.preprocess_test.output.images),
        scores=ancient(f"{RUN}/{{task}}/scores.npz"),
        masks=ancient(panel_masks("npz")),
    output:
        directory(f"{RUN}/{{task}}/vis"),
    log:
        f"{LOGS}/draw_panels/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}_{{task}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: 1
    resources:
        **needs("draw_panels"),
    params:
        resolution=config["resolution"],
        code=code("draw_panels.py"),
    script:
        "../scripts/draw_panels.py"


PANELS = run_files(f"{RUN}/{{task}}/vis") if config["vis"] else []
