"""New images through a run, one job for each entry of the option `predict`."""


rule predict:
    input:
        lambda w: needed(
            disk.detector_files(PLAN, w.prediction),
            predictions.unmade_prediction(PLAN, w.prediction),
        ),
        metrics=lambda w: run_path(TREE.metrics, predictions.run_of(PLAN, w.prediction)),
    output:
        scores=f"{TREE.prediction}/scores.csv",
        maps=directory(f"{TREE.prediction}/maps"),
        overlays=directory(f"{TREE.prediction}/overlays"),
    log:
        f"{TREE.logs}/predict/{{prediction}}.log",
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("predict"),
    params:
        record=lambda w: predictions.prediction_record(PLAN, w.prediction),
        device=config["device"],
        script=script_code("predict"),
    script:
        "../scripts/predict.py"


PREDICTIONS = expand(rules.predict.output, prediction=config["predict"])
