"""New images through a run: the entries of the option `predict`."""

import difflib
import os
from os.path import exists
from pathlib import Path

from fsad.artifacts.content import digest_of
from fsad.artifacts.digests import file_digests
from fsad.artifacts.paths import PREDICTED, RECORD, RUN, Run, fill, run_path
from fsad.artifacts.stages import record
from fsad.data.layouts import find_images
from fsad.errors import UserError
from fsad.planning.plan import Plan, is_made, kept


def run_of(plan: Plan, name: str) -> Run:
    """The run that an entry of `predict` names."""
    wanted = plan.config["predict"][name]["run"]
    known = {run_path(RUN, run).removeprefix("runs/"): run for run in plan.runs}
    if wanted not in known:
        close = ", ".join(difflib.get_close_matches(wanted, known, cutoff=0))
        raise UserError(
            f"config: predict.{name}.run: no such run in this configuration; close "
            f"to it: {close}"
        )
    return known[wanted]


@kept
def images_to_predict(plan: Plan, name: str) -> dict[str, Path]:
    """Image files that an entry of `predict` names, by their names there."""
    path = plan.config["predict"][name]["images"]
    try:
        if not exists(path):
            raise UserError(f"{path}: no such file or folder; correct the path")
        return find_images([path])
    except UserError as error:
        raise UserError(f"config: predict.{name}.images: {error}") from None


def prediction_record(plan: Plan, name: str) -> dict:
    """The record of an entry of `predict`."""
    images = images_to_predict(plan, name)
    # A file that cannot be read stops nothing: its row of the table says so.
    readable = [path for path in images.values() if os.access(path, os.R_OK)]
    known = file_digests(readable, plan.memory)
    content = digest_of({image: known.get(path) for image, path in images.items()})
    run = plan.run(run_of(plan, name))
    return record("predictions", images=content, run=run)


def unmade_prediction(plan: Plan, name: str) -> list[str]:
    """Outputs of an entry of `predict`, unless all are there as planned."""
    folder = fill(plan.tree.prediction, prediction=name)
    outputs = [f"{folder}/{output}" for output in PREDICTED]
    made = is_made(f"{folder}/{RECORD}", prediction_record(plan, name), *outputs)
    return [] if made else outputs
