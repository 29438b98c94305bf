"""New images through a trained run, one job for each entry of the option `predict`."""


rule predict:
    input:
        unpack(detector_files),
    output:
        scores=results("predict/{prediction}/scores.csv"),
        maps=directory(results("predict/{prediction}/maps")),
        overlays=directory(results("predict/{prediction}/overlays")),
    log:
        f"{LOGS}/predict/{{prediction}}.log",
    conda:
        "../../envs/promptad.yaml"
    threads: config["threads"]
    resources:
        **needs("predict"),
        gpu=GPU,
    params:
        images=lambda w: new_images(w.prediction),
        device=config["device"],
        code=code("predict.py"),
    script:
        "../scripts/predict.py"


PREDICTIONS = expand(rules.predict.output.scores, prediction=config["predict"])
