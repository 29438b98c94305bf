"""Runs: fit a method, evaluate its detectors, and keep `last` and `best`."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fsad.artifacts import files
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import RunJob, Source
from fsad.artifacts.stages import check_record, is_same
from fsad.backbones.tower import load_tower
from fsad.errors import UserError
from fsad.evaluation.metrics import METRICS, SELECTIONS
from fsad.evaluation.tasks import TASKS, Truth
from fsad.methods.base import Detector, Features, Method, Prediction, Text
from fsad.methods.maps import full_maps

FILES = "model.npz", "scores.npz", "history.csv", "metrics.json"


class Evaluation(NamedTuple):
    """A detector after an epoch, and its predictions of the test images."""

    epoch: int
    auroc: float
    detector: Detector
    prediction: Prediction


class Outcome(NamedTuple):
    """A finished run: two evaluations, and one row per epoch."""

    last: Evaluation
    best: Evaluation
    history: list[dict]


def fit(
    method: Method, task: str, features: Mapping[str, Features], truth: Truth, seed: int
) -> Outcome:
    """Fit a method and evaluate each detector that it yields.

    features: those of the `support` and the `test` images. `best` is the first
    evaluation with the highest AUROC on the test images, as most papers report it.
    """
    last = best = observed = None
    history = []
    for step in method.fit(features["support"], seed):
        row = {"epoch": step.epoch, **step.terms}
        if step.detector is not None:
            if observed is None:
                observed = step.detector.observe(features["test"])
                auroc = TASKS[task].auroc(truth, _device(observed), step.detector.sigma)
            prediction = step.detector.predict(observed)
            area = auroc(TASKS[task].values(prediction))
            last = Evaluation(step.epoch, area, step.detector, prediction)
            best = last if best is None or last.auroc > best.auroc else best
            row["auroc"] = area
        history.append(row)
    return Outcome(last, best, history)


def _device(observed: Mapping[str, Tensor]):
    return next(iter(observed.values())).device


def run_job(job: RunJob) -> None:
    """Make runs of one experiment and class, one after the other, from cached files.

    A finished run, see `is_finished`, is left alone. Raises UserError if a cached file
    is damaged or of another record.
    """
    pending = [
        (folder, record)
        for folder, record in zip(job.folders, job.records, strict=True)
        if not is_finished(folder, record)
    ]
    if not pending:
        return
    test, masks = _read(job.test), job.masks and _read(job.masks)["masks"]
    truth, text = Truth(test["labels"], masks), _read_text(job)
    for folder, record in pending:
        support = read_support(Source(*job.support[record["seed"]]), record["support"])
        make_run(folder, record, text, {"support": support, "test": test}, truth)


def _read(source: Source) -> dict[str, np.ndarray]:
    path, record = source
    return files.read_npz(path, record=record)


def _read_text(job: RunJob) -> Text | None:
    """Text tower and tokens, if the method reads text."""
    return Text(load_tower(*job.text), _read(job.prompts)) if job.text else None


def read_support(source: Source, images: Sequence) -> dict[str, np.ndarray]:
    """First rows of a cached file, whose rows are those of the largest draw.

    images: names and digests of the wanted support images. Raises UserError unless they
    are the first of the file, or if it is damaged or of another record.
    """
    path, record = source
    arrays = files.read_npz(path, record=record)
    first = files.read_settings(path)["images"][: len(images)]
    check_record(path, {"support": first}, {"support": images})
    return {name: array[: len(images)] for name, array in arrays.items()}


def make_run(
    folder: str | Path,
    record: Mapping,
    text: Text | None,
    features: Mapping[str, Features],
    truth: Truth,
) -> None:
    """Fit and evaluate one run, and write it into `folder`.

    record: of stage `run`, with its task, seed, module of the method and options.
    """
    task, options = record["task"], record["options"]
    method = import_module(record["module"]).create(task, options, text)
    outcome = fit(method, task, features, truth, record["seed"])
    write_run(folder, outcome, features["test"], truth, record)


def is_finished(folder: str | Path, record: Mapping) -> bool:
    """Whether a folder has all files of a run of this record, arrays undamaged."""
    folder = Path(folder)
    try:
        settings = files.read_record(folder / "metrics.json")["settings"]
    except UserError:
        return False
    arrays = (folder / name for name in FILES if name.endswith(".npz"))
    whole = all(files.is_whole(path, record) for path in arrays)
    return is_same(settings, record) and whole and (folder / "history.csv").is_file()


def write_run(
    folder: str | Path,
    outcome: Outcome,
    test: Features,
    truth: Truth,
    record: Mapping,
) -> None:
    """Write model.npz, scores.npz, history.csv and metrics.json into `folder`.

    The record is stored in each but history.csv. metrics.json is written last: with it
    the run is complete.
    """
    folder, settings = Path(folder), with_provenance(record)
    task, resolution = record["task"], record["options"]["resolution"]
    files.write_npz(folder / "model.npz", _model(outcome), settings)
    scores = _scores(outcome, test, resolution)
    files.write_npz(folder / "scores.npz", scores, settings)
    files.write_text(folder / "history.csv", _history(task, outcome.history))
    results = {e.epoch: _results(task, e, truth) for _, e in _selected(outcome)}
    metrics = {name: results[e.epoch] for name, e in _selected(outcome)}
    files.write_record(folder / "metrics.json", metrics | {"settings": settings})


def _selected(outcome: Outcome) -> list[tuple[str, Evaluation]]:
    return [(selection, getattr(outcome, selection)) for selection in SELECTIONS]


def _model(outcome: Outcome) -> dict[str, np.ndarray]:
    return {
        f"{selection}_{name}": tensor.cpu().numpy()
        for selection, evaluation in _selected(outcome)
        for name, tensor in evaluation.detector.learned.items()
    }


def _scores(outcome: Outcome, test: Features, resolution: int) -> dict[str, np.ndarray]:
    arrays = {name: test[name] for name in ("names", "labels")}
    for selection, evaluation in _selected(outcome):
        prediction, sigma = evaluation.prediction, evaluation.detector.sigma
        scores, maps = image_scores(prediction, resolution, sigma)
        components = {n: c.cpu().numpy() for n, c in prediction.components.items()}
        named = {"scores": scores, "maps": maps, **components}
        arrays |= {f"{selection}_{name}": array for name, array in named.items()}
    return arrays | {"sigma": np.array(sigma)}


def image_scores(
    prediction: Prediction, resolution: int, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N] and maps [N, gh, gw] of a prediction.

    The scores are the maxima of the full maps where the prediction has no scores.
    """
    maps = prediction.maps.cpu().numpy()
    if prediction.scores is None:
        return full_maps(maps, resolution, sigma).max((1, 2)), maps
    return prediction.scores.cpu().numpy(), maps


def _results(task: str, evaluation: Evaluation, truth: Truth) -> dict:
    """All metrics of an evaluation, and the AUROC of each component."""
    prediction, sigma = evaluation.prediction, evaluation.detector.sigma
    values = TASKS[task].values(prediction).cpu().numpy()
    auroc = TASKS[task].auroc(truth, prediction.maps.device, sigma)
    components = {name: auroc(x) for name, x in prediction.components.items()}
    found = TASKS[task].metrics(truth, values, sigma)
    return {"epoch": evaluation.epoch, **found, "components": components}


def _history(task: str, history: Iterable[Mapping]) -> str:
    """A table with a row per epoch, and the AUROC where the epoch was evaluated."""
    rows = list(history)
    names = [name for name in rows[-1] if name != "auroc"]
    table = [[*names, METRICS[task][0]]]
    table += [[*(_number(r[n]) for n in names), r.get("auroc", "")] for r in rows]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(table)
    return file.getvalue()


def _number(value: float | Tensor) -> float:
    return value.item() if isinstance(value, Tensor) else value
