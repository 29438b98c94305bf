"""New images through a trained run, one job for each entry of the option `predict`."""

PLANNED = dict(
    zip(run_files(RUN.removeprefix(results("runs/")) + "/{task}"), RUNS, strict=True)
)


def check_predict(name, run):
    if run not in PLANNED:
        close = difflib.get_close_matches(run, PLANNED, cutoff=0)
        raise UserError(
            f"config: predict.{name}.run: {run!r} is no run of this configuration; "
            f"take one like {', '.join(close)}"
        )


def new_images():
    """The image files of every entry of `predict`."""
    for name, entry in config["predict"].items():
        check_predict(name, entry["run"])
    return {
        name: list(find_images([entry["images"]]).values())
        for name, entry in config["predict"].items()
    }


try:
    NEW_IMAGES = new_images()
except UserError as error:
    raise WorkflowError(str(error))


def detector_files(wildcards):
    """All that the detector of a run is made of, and the images it is to score."""
    run = config["predict"][wildcards.prediction]["run"]
    keys = dict(zip(RUN_KEYS, PLANNED[run], strict=True))
    keys["variant"] = variant_name(VARIANTS[keys["experiment"]])
    support = rules.embed_support.output[0], rules.preprocess_support.output[0]
    return {
        "run": [results(f"runs/{run}/{file}.npz") for file in ("model", "scores")],
        "support": [path.format(**keys) for path in support],
        "towers": rules.backbone.output,
        "images": NEW_IMAGES[wildcards.prediction],
    }


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
        gpu=GPU,
    params:
        images=lambda w: config["predict"][w.prediction]["images"],
        device=config["device"],
        code=code("predict.py"),
    script:
        "../scripts/predict.py"


PREDICTIONS = expand(rules.predict.output.scores, prediction=config["predict"])
