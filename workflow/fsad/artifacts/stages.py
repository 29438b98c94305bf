"""Records that identify artefacts, stored in them and checked when they are read.

An artefact is up to date if its record is the planned one. A record holds the stage,
its keys, and a digest of the code that makes the artefact.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fsad.artifacts.code import code_digest
from fsad.artifacts.content import digest_of
from fsad.errors import UserError

PLACE = ("dataset", "class")


class Stage(NamedTuple):
    """Keys of the records of a stage, and the modules that make its artefacts."""

    keys: tuple[str, ...]
    modules: tuple[str, ...]


STAGES = {
    "backbone": Stage(("backbone", "part"), ("fsad.backbones.load",)),
    "images": Stage((*PLACE, "view", "images", "region"), ("fsad.data.prepare",)),
    "support": Stage(
        (*PLACE, "seed", "view", "augment", "images", "region"), ("fsad.data.prepare",)
    ),
    "masks": Stage(
        (*PLACE, "resolution", "images", "masks", "region"), ("fsad.data.prepare",)
    ),
    "prompts": Stage((*PLACE, "text", "states"), ("fsad.data.words",)),
    "features": Stage(
        (
            *(*PLACE, "backbone", "readout", "precision", "device"),
            *("images", "region", "made_from"),
        ),
        ("fsad.backbones.features",),
    ),
    "run": Stage(
        (
            *("experiment", *PLACE, "task", "shots", "seed", "method", "module"),
            *("backbone", "readout", "options", "support", "made_from"),
        ),
        ("fsad.evaluation.runs",),
    ),
    "panels": Stage(("images", "masks", "run"), ("fsad.reports.panels",)),
    "report": Stage(("runs", "images", "order"), ("fsad.reports.report",)),
    "predictions": Stage(("images", "run"), ("fsad.evaluation.predict",)),
}


def record(stage: str, code: str | None = None, **keys: object) -> dict:
    """Record of an artefact; ValueError for an unknown or missing key.

    code: digest of the code, by default that of the modules of the stage.
    """
    expected = STAGES[stage].keys
    if keys.keys() != set(expected):
        wrong = ", ".join(sorted(keys.keys() ^ set(expected)))
        raise ValueError(f"stage {stage}: keys are unknown or missing: {wrong}")
    return {"stage": stage, **keys, "code": code or stage_code(stage)}


@cache
def stage_code(stage: str) -> str:
    """Digest of the code that makes the artefacts of a stage."""
    return code_digest(*STAGES[stage].modules)


def check_record(path: str | Path, found: Mapping, expected: Mapping) -> None:
    """Raise UserError for the first key whose value differs from the expected one.

    found: a record, or settings that contain one. expected: any of its keys.
    """
    for name, value in expected.items():
        if _plain(found.get(name)) != _plain(value):
            key, one, other = _difference(name, found.get(name), value)
            raise UserError(
                f"{path}: is of {key} {_short(one)}, not {_short(other)}: another file "
                "in its place, or from another version; delete it and run again"
            )


def _difference(name: str, found: object, expected: object) -> tuple:
    """Dotted name and both values of the first difference, in nested mappings too."""
    while isinstance(found, Mapping) and isinstance(expected, Mapping):
        names = [*expected, *found]
        key = next(k for k in names if found.get(k) != expected.get(k))
        name, found, expected = f"{name}.{key}", found.get(key), expected.get(key)
    return name, found, expected


def is_same(found: Mapping, expected: Mapping) -> bool:
    """Whether a record has the expected value for every expected key."""
    return all(_plain(found.get(n)) == _plain(value) for n, value in expected.items())


def identity(found: Mapping, without: tuple[str, ...] = ()) -> str:
    """Digest of a record, or of the record in settings, without some keys."""
    keys = {"stage", "code", *STAGES[found["stage"]].keys} - set(without)
    return digest_of({name: found[name] for name in keys})


def _plain(value: object) -> str:
    """A value as JSON: tuples become lists, the order of keys does not matter."""
    return json.dumps(value, sort_keys=True)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
