"""Runs: fit a method, evaluate its detectors, and keep `last` and `best`."""

import csv
import io
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fsad.artifacts import files, paths
from fsad.artifacts.content import content_digest
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import RunJob, Source
from fsad.artifacts.stages import check_record, is_same
from fsad.backbones.tower import load_tower
from fsad.errors import UserError
from fsad.evaluation.metrics import METRICS
from fsad.evaluation.tasks import TASKS, Truth
from fsad.methods.base import Detector, Features, Method, Prediction, Text
from fsad.methods.maps import full_maps


class Evaluation(NamedTuple):
    """A detector after an epoch, and its predictions of the test images."""

    epoch: int
    auroc: float
    detector: Detector
    prediction: Prediction


def fit(
    method: Method, task: str, features: Mapping[str, Features], truth: Truth, seed: int
) -> tuple[dict[str, Evaluation], list[dict]]:
    """Fit a method and evaluate each detector that it yields.

    Returns the evaluations `last` and `best`, and a row per epoch. features: those of
    the `support` and the `test` images. `best` is the first evaluation with the highest
    AUROC on the test images, as most papers report it.
    """
    last = best = observed = None
    history = []
    for step in method.fit(features["support"], seed):
        row = {"epoch": step.epoch, **step.terms}
        if step.detector is not None:
            if observed is None:
                observed = step.detector.observe(features["test"])
                device = next(iter(observed.values())).device
                auroc = TASKS[task].auroc(truth, device, step.detector.sigma)
            prediction = step.detector.predict(observed)
            row["auroc"] = auroc(TASKS[task].values(prediction))
            last = Evaluation(step.epoch, row["auroc"], step.detector, prediction)
            best = last if best is None or last.auroc > best.auroc else best
        history.append(row)
    return {"last": last, "best": best}, history


def run_job(job: RunJob) -> None:
    """Make runs of one experiment and class, one after the other, from cached files.

    A finished run, see `is_finished`, is left alone. Raises UserError if a cached file
    is damaged or of another record.
    """
    runs = zip(job.folders, job.records, strict=True)
    pending = [run for run in runs if not is_finished(*run)]
    if not pending:
        return
    test, masks = _read(job.test), job.masks and _read(job.masks)["masks"]
    text = Text(load_tower(*job.text), _read(job.prompts)) if job.text else None
    truth = Truth(test["labels"], masks)
    for folder, record in pending:
        support = read_support(job.support[record["seed"]], record["support"])
        make_run(folder, record, text, {"support": support, "test": test}, truth)


def _read(source: Source) -> dict[str, np.ndarray]:
    path, record = source
    return files.read_npz(path, record=record)


def read_support(source: Source, images: Sequence) -> dict[str, np.ndarray]:
    """First rows of a cached file, whose rows are those of the largest draw.

    images: names and digests of the wanted support images. Raises UserError unless they
    are the first of the file, or if it is damaged or of another record.
    """
    path, _ = source
    arrays, count = _read(source), len(images)
    found = files.read_settings(path)["images"][:count]
    check_record(path, {"support": found}, {"support": images})
    return {name: array[:count] for name, array in arrays.items()}


def is_finished(folder: str | Path, record: Mapping) -> bool:
    """Whether a folder has all files of a run of this record, arrays undamaged."""
    folder = Path(folder)
    try:
        found = files.read_record(folder / paths.METRICS)
        files.read_text(folder / paths.HISTORY, found["history"])
    except UserError:
        return False
    arrays = folder / paths.MODEL, folder / paths.SCORES
    whole = all(files.is_whole(path, record) for path in arrays)
    return whole and is_same(found["settings"], record)


def make_run(
    folder: str | Path,
    record: Mapping,
    text: Text | None,
    features: Mapping[str, Features],
    truth: Truth,
) -> None:
    """Fit and evaluate one run, and write it into `folder`.

    record: of stage `run`, with its task, seed, module of the method and options. It is
    stored in model.npz, scores.npz and metrics.json. metrics.json has the digest of
    history.csv, and is written last: with it the run is complete.
    """
    task, options = record["task"], record["options"]
    method = import_module(record["module"]).create(task, options, text)
    found, history = fit(method, task, features, truth, record["seed"])
    folder, settings = Path(folder), with_provenance(record)
    files.write_npz(folder / paths.MODEL, _model(found), settings)
    scores = _scores(found, features["test"], options["resolution"])
    files.write_npz(folder / paths.SCORES, scores, settings)
    table = _history(task, history)
    files.write_text(folder / paths.HISTORY, table)
    results = {name: _results(task, e, truth) for name, e in found.items()}
    results |= {"history": content_digest(table), "settings": settings}
    files.write_record(folder / paths.METRICS, results)


def _model(found: Mapping[str, Evaluation]) -> dict[str, np.ndarray]:
    return {
        f"{selection}_{name}": tensor.cpu().numpy()
        for selection, evaluation in found.items()
        for name, tensor in evaluation.detector.learned.items()
    }


def _scores(
    found: Mapping[str, Evaluation], test: Features, resolution: int
) -> dict[str, np.ndarray]:
    arrays = {name: test[name] for name in ("names", "labels")}
    for selection, (*_, detector, prediction) in found.items():
        scores, maps = image_scores(prediction, resolution, detector.sigma)
        components = {n: c.cpu().numpy() for n, c in prediction.components.items()}
        named = {"scores": scores, "maps": maps, **components}
        arrays |= {f"{selection}_{name}": array for name, array in named.items()}
    return arrays | {"sigma": np.array(detector.sigma)}


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


def _history(task: str, history: Sequence[Mapping]) -> str:
    """A table with a row per epoch, and the AUROC where the epoch was evaluated."""
    names = [name for name in history[-1] if name != "auroc"]
    rows = [[*names, METRICS[task][0]]]
    for row in history:
        terms = (row[name] for name in names)
        numbers = [x.item() if isinstance(x, Tensor) else x for x in terms]
        rows.append([*numbers, row.get("auroc", "")])
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
