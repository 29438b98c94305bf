"""Runs: fit a method, evaluate its detectors, and keep `last` and `best`."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fsad.artifacts import files, paths
from fsad.artifacts.content import content_digest
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import RunJob
from fsad.artifacts.stages import is_same
from fsad.backbones.features import in_memory
from fsad.data.prepare import random_key
from fsad.errors import UserError
from fsad.evaluation.calibration import POINT, calibrate
from fsad.evaluation.inputs import Inputs, job_inputs
from fsad.evaluation.metrics import METRICS
from fsad.evaluation.observe import Observed, observe, observe_each, predict
from fsad.evaluation.tasks import TASKS, Truth, full_size, image_scores
from fsad.methods import parts
from fsad.methods.base import Detector, Features, Method, Prediction, Step
from fsad.methods.maps import side


class Evaluation(NamedTuple):
    """A detector after an epoch, and its predictions of the test images."""

    epoch: int
    auroc: float
    detector: Detector
    prediction: Prediction


Fitted = tuple[dict[str, Evaluation], list[dict]]  # `last` and `best`; all epochs
PlannedRun = tuple[str, Mapping]  # folder and record


def evaluate(
    steps: Iterable[Step],
    record: Mapping,
    truth: Truth,
    observing: Callable[[Detector], Observed],
) -> Fitted:
    """Evaluate each detector that a fit yields.

    Returns the evaluations `last` and `best`, and a row per epoch. record: of the run.
    observing: what the first detector, and so all, see of the test images. `best` is
    the first evaluation with the highest AUROC on the test images, as most papers
    report it.
    """
    task, resolution = record["task"], side(record["options"]["resolution"])
    last = best = observed = None
    history = []
    for step in steps:
        row = {"epoch": step.epoch, **step.terms}
        if step.detector is not None:
            if observed is None:
                observed = observing(step.detector)
                device = next(iter(observed[0][1].values())).device
                auroc = TASKS[task].auroc(truth, device, step.detector.sigma)
            prediction = predict(step.detector, observed, resolution)
            row["auroc"] = auroc(TASKS[task].values(prediction))
            last = Evaluation(step.epoch, row["auroc"], step.detector, prediction)
            best = last if best is None or last.auroc > best.auroc else best
        history.append(row)
    return {"last": last, "best": best}, history


def run_job(job: RunJob) -> None:
    """Make the runs of a job, of one experiment and class, from cached files.

    A finished run, see `is_finished`, is left alone. Raises UserError if a cached file
    is damaged or of another record.
    """
    runs = zip(job.folders, job.records, strict=True)
    pending = [run for run in runs if not is_finished(*run)]
    if pending:
        make_runs(pending, job_inputs(job))


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


def make_runs(runs: Sequence[PlannedRun], inputs: Inputs) -> None:
    """Fit and evaluate runs of one experiment and class, and write them.

    With training one goes after the other, and features that are in no file are
    computed once. Without, both tasks of a draw share its
    prediction, and all draws are compared with the test images in one pass.
    """
    module = import_module(runs[0][1]["module"])
    if hasattr(module, "observe_all"):
        _run_together(runs, inputs, module)
        return
    if inputs.test.is_costly and len(runs) > 1:
        inputs = inputs._replace(test=in_memory(inputs.test))
    for folder, record in runs:
        fitted = _fit(record, inputs, module)
        point = _operating_point(record, fitted[0]["last"].detector, inputs)
        write_run(folder, record, fitted, point, inputs)


def _operating_point(record: Mapping, detector: Detector, inputs: Inputs) -> dict:
    """`threshold`, `map_range` and `calibrated` of a detector, see `calibrate`."""
    new_images = inputs.detector(record, detector)
    support = inputs.support(record)
    found = calibrate(new_images, support, new_images.seen).described
    return {name: found[name] for name in POINT}


def _fit(record: Mapping, inputs: Inputs, module: ModuleType) -> Fitted:
    """Fit a method that has epochs, and evaluate it."""
    return evaluate(
        _steps(_method(record, inputs, module), record, inputs),
        record,
        inputs.truth,
        lambda detector: observe([detector], inputs.test, observe_each)[0],
    )


def _method(record: Mapping, inputs: Inputs, module: ModuleType) -> Method:
    return parts.create(module, record["task"], record["options"], inputs.text)


def _steps(method: Method, record: Mapping, inputs: Inputs) -> Iterator[Step]:
    key = random_key(record["seed"], record["class"])
    return method.fit(inputs.support(record), key)


def _run_together(
    runs: Sequence[PlannedRun], inputs: Inputs, module: ModuleType
) -> None:
    """Make runs of a method without training, which is created once for all."""
    draws = {_draw(record): record for _, record in runs}
    method = _method(runs[0][1], inputs, module)
    steps = {key: [*_steps(method, draws[key], inputs)] for key in sorted(draws)}
    detectors = {key: own[-1].detector for key, own in steps.items()}
    seeds = [[*map(detectors.get, own)] for _, own in groupby(detectors, itemgetter(0))]

    def observe_all(_, block: Features) -> list[dict[str, Tensor]]:
        found = (parts.observe_all(module, nested, block) for nested in seeds)
        return [x for nested in found for x in nested]

    observed = observe([*detectors.values()], inputs.test, observe_all)
    seen = dict(zip(detectors, observed, strict=True))
    points = {
        key: _operating_point(draws[key], detector, inputs)
        for key, detector in detectors.items()
    }
    for folder, record in runs:
        key = _draw(record)
        fitted = evaluate(steps[key], record, inputs.truth, lambda _, x=seen[key]: x)
        write_run(folder, record, fitted, points[key], inputs)


def _draw(record: Mapping) -> tuple[int, int]:
    return record["seed"], record["shots"]


def write_run(
    folder: str | Path,
    record: Mapping,
    fitted: Fitted,
    point: Mapping,
    inputs: Inputs,
) -> None:
    """Write a run into `folder`.

    record: of stage `run`. It is stored in model.npz, scores.npz and metrics.json.
    metrics.json has `threshold`, `map_range` and `calibrated` of `point`, those of the
    detector after the last epoch, and the digest of history.csv, and is written last:
    with it the run is complete.
    """
    (found, history), task = fitted, record["task"]
    folder, settings = Path(folder), with_provenance(record)
    files.write_npz(folder / paths.MODEL, _model(found), settings)
    files.write_npz(folder / paths.SCORES, _scores(found, inputs), settings)
    table = _history(task, history)
    files.write_text(folder / paths.HISTORY, table)
    results = _selected_results(task, found, inputs.truth)
    results |= {**point, "history": content_digest(table), "settings": settings}
    files.write_record(folder / paths.METRICS, results)


def _model(found: Mapping[str, Evaluation]) -> dict[str, np.ndarray]:
    return {
        f"{selection}_{name}": tensor.cpu().numpy()
        for selection, evaluation in found.items()
        for name, tensor in evaluation.detector.learned.items()
    }


def _scores(found: Mapping[str, Evaluation], inputs: Inputs) -> dict[str, np.ndarray]:
    arrays = {"names": inputs.test.names, "labels": inputs.test.labels}
    for selection, (*_, detector, prediction) in found.items():
        full = partial(full_size, inputs.truth.masks, sigma=detector.sigma)
        scores, maps = image_scores(prediction, full)
        components = {n: c.cpu().numpy() for n, c in prediction.components.items()}
        named = {"scores": scores, "maps": maps, **components}
        arrays |= {f"{selection}_{name}": array for name, array in named.items()}
    return arrays | {"sigma": np.array(detector.sigma)}


def _selected_results(
    task: str, found: Mapping[str, Evaluation], truth: Truth
) -> dict[str, dict]:
    """Results of `last` and `best`, computed once where these are one evaluation."""
    last, best = found["last"], found["best"]
    of_last = _results(task, last, truth)
    of_best = of_last if best is last else _results(task, best, truth)
    return {"last": of_last, "best": of_best}


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
