"""The trainings of one class: from cached features to the files of its runs."""

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from promptad import metrics, provenance, storage, training
from promptad.devices import check_device
from promptad.maps import full_maps
from promptad.provenance import origin, tower_origin
from promptad.scores import TRAINED_ON
from promptad.text import Contexts, embed_words
from promptad.training import Run, Training
from promptad.transformer import Tower, load_tower, placed, tower_device


def run_from_files(
    folders: Sequence[str | Path],
    settings: Sequence[Mapping],
    tower: str,
    prompts: str,
    test: str,
    support: Sequence[str],
    masks: str | None = None,
) -> None:
    """Train one class from cached files and write each of its runs into its folder.

    settings, support: of each run; see `train`. masks: needed where a task is seg.
    """
    about = _about_class(settings[0])
    read = sorted({TRAINED_ON[run["task"]] for run in settings})
    run_from_arrays(
        folders,
        settings,
        load_tower(tower, tower_origin(tower)),
        storage.read_npz(prompts, origin=origin("tokenize_prompts.py", **about)),
        storage.read_npz(
            *(test, *read, "labels", "names"), origin=origin("embed_test.py", **about)
        ),
        [
            storage.read_npz(path, *read, "visual", origin=_support_origin(run, about))
            for path, run in zip(support, settings, strict=True)
        ],
        _read_masks(masks, about) if masks else None,
    )


def _about_class(run: Mapping) -> dict:
    """What all cached files of a run's class tell of themselves."""
    names = {"dataset": "dataset", "class_name": "class", "variant": "variant"}
    told = {name: run[key] for name, key in names.items()}
    return told | {"resolution": run["options"]["resolution"]}


def _support_origin(run: Mapping, about: Mapping) -> dict:
    drawn = {key: run[key] for key in ("shots", "seed")}
    return origin("embed_support.py", **about, **drawn)


def _read_masks(path: str, about: Mapping) -> np.ndarray:
    made_by = origin("preprocess_masks.py", **about)
    return storage.read_npz(path, "masks", origin=made_by)["masks"]


def run_from_arrays(
    folders: Sequence[str | Path],
    settings: Sequence[Mapping],
    tower: Tower,
    tokens: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    supports: Sequence[dict[str, np.ndarray]],
    masks: np.ndarray | None,
) -> None:
    """Train one class, see `train`, and write each of its runs into its folder."""
    trained = train(settings, tower, tokens, test, supports, masks)
    for folder, run, of, support in zip(
        folders, trained, settings, supports, strict=True
    ):
        described = provenance.settings(**of, **origin("train.py"))
        write_run(folder, of["task"], run, test, support["visual"], masks, described)


def train(
    settings: Sequence[Mapping],
    tower: Tower,
    tokens: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    supports: Sequence[dict[str, np.ndarray]],
    masks: np.ndarray | None,
) -> list[Run]:
    """Train and evaluate several runs of one class and variant, all in one pass.

    settings: of each run its `task`, and as `options` those of
    `config.training_options` with `resolution`, `device`, `precision` and `seed`; only
    task, `seed` and `n_pro` may differ. tokens: `prompts.tokenize`. test:
    `features.embed_test`. supports: `features.embed_support` of each run. masks:
    [N, R, R] for seg.
    """
    options = settings[0]["options"]
    check_device(options["device"])
    tower = placed(tower, options["device"], options["precision"])
    words = embed_words(tower, tokens)
    trainings = [
        _training(run, tower, test, support, masks)
        for run, support in zip(settings, supports, strict=True)
    ]
    return training.fit(tower, words, trainings, options)


def _training(run: Mapping, tower: Tower, test, support, masks) -> Training:
    task, options, device = run["task"], run["options"], tower_device(tower)
    width = tower.weights["positional_embedding"].shape[1]
    drawn = training.initial_contexts(options, width, options["seed"])
    contexts = Contexts(*(c.to(device) for c in drawn))
    arrays = support[TRAINED_ON[task]], test[TRAINED_ON[task]], support["visual"]
    features, tested, visual = (torch.from_numpy(a).to(device) for a in arrays)
    factor = training.temperature(tower, options)
    if task == "cls":
        truth = test["labels"], factor, options["resolution"]
        evaluate = training.image_evaluator(tested, visual, *truth)
    else:
        evaluate = training.pixel_evaluator(tested, visual, masks, factor)
    return Training(contexts, features, evaluate)


def write_run(
    folder: str | Path,
    task: str,
    run: Run,
    test: dict[str, np.ndarray],
    visual: np.ndarray,
    masks: np.ndarray | None,
    settings: Mapping,
) -> None:
    """Write model.npz, scores.npz, history.csv and metrics.json into `folder`.

    `settings` are stored in each but history.csv. metrics.json comes last: where it
    stands, the run is complete.
    """
    folder = Path(folder)
    storage.write_npz(folder / "model.npz", _model(run), settings)
    predictions = _predictions(run, test, visual)
    storage.write_npz(folder / "scores.npz", predictions, settings)
    storage.write_text(folder / "history.csv", _history(task, run))
    area = partial(_auroc, test=test, masks=masks, device=settings["options"]["device"])
    # Training changes the text alone, so both selections share the visual part.
    memory, selected = area(run.last.predictions["visual"]), _selected(run)
    results = {
        epoch: {
            "epoch": epoch,
            **_metrics(task, evaluation, test, masks),
            "parts": {
                "textual": area(evaluation.predictions["textual"]),
                "visual": memory,
            },
        }
        for epoch, evaluation in {e.epoch: e for e in selected.values()}.items()
    }
    found = {name: results[e.epoch] for name, e in selected.items()}
    storage.write_record(folder / "metrics.json", found | {"settings": settings})


def _selected(run: Run) -> dict[str, training.Evaluation]:
    return {selection: getattr(run, selection) for selection in metrics.SELECTIONS}


def _model(run: Run) -> dict[str, np.ndarray]:
    arrays = {}
    for selection, evaluation in _selected(run).items():
        normal, abnormal = evaluation.contexts
        parts = {"normal": normal, "abnormal": abnormal, "prompts": evaluation.prompts}
        arrays |= {f"{selection}_{n}": p.cpu().numpy() for n, p in parts.items()}
    return arrays


def _predictions(
    run: Run, test: dict[str, np.ndarray], visual: np.ndarray
) -> dict[str, np.ndarray]:
    arrays = {name: test[name] for name in ("names", "labels")}
    for selection, evaluation in _selected(run).items():
        arrays[selection] = evaluation.predictions["fused"]
        arrays[f"{selection}_textual"] = evaluation.predictions["textual"]
    return arrays | {"visual": visual}


def _metrics(
    task: str,
    evaluation: training.Evaluation,
    test: dict[str, np.ndarray],
    masks: np.ndarray | None,
) -> dict[str, float]:
    fused = evaluation.predictions["fused"]
    if task == "cls":
        return metrics.image_metrics(test["labels"], fused)
    return metrics.pixel_metrics(masks, full_maps(fused, masks.shape[-1]))


def _auroc(
    part: np.ndarray,
    test: dict[str, np.ndarray],
    masks: np.ndarray | None,
    device: str,
) -> float:
    """AUROC of one of the two scores that are fused, scores [N] or maps [N, G, G]."""
    if part.ndim == 1:
        return metrics.auroc(test["labels"], part)
    maps = torch.from_numpy(full_maps(part, masks.shape[-1])).to(device)
    return training.pixel_auroc(masks, maps.device)(maps)


def _history(task: str, run: Run) -> str:
    """One row per epoch; the AUROC, under its metric's name, where it was evaluated."""
    *names, auroc = run.history[-1]  # of the last epoch, which always is
    rows = [[*names, metrics.METRICS[task][0]]]
    rows += [[row.get(name, "") for name in (*names, auroc)] for row in run.history]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
