"""Pictures of what a run found, with `vis: true`."""


rule draw_panels:
    input:
        images=rules.preprocess_test.output[0],
        scores=f"{RUN}/{{task}}/scores.npz",
        masks=panel_masks,
    output:
        directory(f"{RUN}/{{task}}/vis"),
    log:
        f"{LOGS}/draw_panels/{{experiment}}/{{dataset}}/{{class_name}}/k{{shots}}_s{{seed}}_{{task}}.log",
    group:
        "train_{dataset}_{class_name}"
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
