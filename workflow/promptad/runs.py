"""One training of one class: from cached features to the files of its run."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from promptad import metrics, provenance, storage, training
from promptad.devices import check_device
from promptad.maps import full_maps
from promptad.text import embed_words
from promptad.training import Run
from promptad.transformer import Tower, load_tower

TRAINED_ON = {"cls": "global", "seg": "patch"}


def run_from_files(
    folder: str | Path,
    settings: Mapping,
    tower: str,
    prompts: str,
    test: str,
    support: str,
    masks: str | None = None,
) -> None:
    """Train one class from cached files and write its run into `folder`.

    settings: `task`, `options` for `train`, and whatever identifies the run.
    """
    task = settings["task"]
    trained_on = TRAINED_ON[task]
    run_from_arrays(
        folder,
        settings,
        load_tower(tower),
        storage.read_npz(prompts),
        storage.read_npz(test, trained_on, "labels", "names"),
        storage.read_npz(support, trained_on, "visual"),
        storage.read_npz(masks, "masks")["masks"] if task == "seg" else None,
    )


def run_from_arrays(
    folder: str | Path,
    settings: Mapping,
    tower: Tower,
    tokens: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    support: dict[str, np.ndarray],
    masks: np.ndarray | None,
) -> None:
    """Train one class, see `train`, and write its run into `folder`."""
    task, options = settings["task"], settings["options"]
    run = train(task, tower, tokens, test, support, masks, options)
    described = provenance.settings(**settings)
    write_run(folder, task, run, test, support["visual"], masks, described)


def train(
    task: str,
    tower: Tower,
    tokens: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    support: dict[str, np.ndarray],
    masks: np.ndarray | None,
    options: Mapping,
) -> Run:
    """Train and evaluate one class.

    tokens: `prompts.tokenize`. test, support: `features.embed_test`,
    `features.embed_support`. masks: [N, R, R] for seg. options: those of
    `config.training_options` with `resolution`, `seed` and `device`.
    """
    device = options["device"]
    check_device(device)
    tower = Tower({n: w.to(device) for n, w in tower.weights.items()}, tower.config)
    words = embed_words(tower, tokens)
    contexts = training.initial_contexts(options, words.start.shape[0], options["seed"])
    contexts = training.Contexts(*(c.to(device) for c in contexts))
    features = _tensor(support[TRAINED_ON[task]], device)
    evaluate = _evaluator(task, tower, test, support["visual"], masks, options)
    return training.fit(tower, words, contexts, features, evaluate, options)


def _evaluator(task, tower, test, visual, masks, options):
    device, factor = options["device"], training.temperature(tower, options)
    features, visual = _tensor(test[TRAINED_ON[task]], device), _tensor(visual, device)
    if task == "cls":
        resolution = options["resolution"]
        return training.image_evaluator(
            features, visual, test["labels"], factor, resolution
        )
    return training.pixel_evaluator(features, visual, masks, factor)


def _tensor(array: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(array).to(device)


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
    # Training changes the text alone, so both selections share the visual part.
    memory = _auroc(run.last.predictions["visual"], test, masks)
    results = {
        selection: {
            "epoch": evaluation.epoch,
            **_metrics(task, evaluation, test, masks),
            "parts": {
                "textual": _auroc(evaluation.predictions["textual"], test, masks),
                "visual": memory,
            },
        }
        for selection, evaluation in _selected(run).items()
    }
    storage.write_json(folder / "metrics.json", results | {"settings": settings})


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
    part: np.ndarray, test: dict[str, np.ndarray], masks: np.ndarray | None
) -> float:
    """AUROC of one of the two scores that are fused, scores [N] or maps [N, G, G]."""
    if part.ndim == 1:
        return metrics.auroc(test["labels"], part)
    return metrics.auroc(masks, full_maps(part, masks.shape[-1]))


def _history(task: str, run: Run) -> str:
    table = pd.DataFrame(run.history)
    table = table.rename(columns={"auroc": metrics.METRICS[task][0]})
    return table.to_csv(index=False, lineterminator="\n")
