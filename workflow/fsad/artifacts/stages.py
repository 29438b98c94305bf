"""Records: what identifies an artefact of each stage, stored in it and checked on reading.

An artefact is as planned if the record in it is the planned one. A record names the
stage, its keys, and a digest of the code that makes it.
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
    """Keys of a stage's records, and the modules whose code makes its artefacts."""

    keys: tuple[str, ...]
    modules: tuple[str, ...]


STAGES = {
    "backbone": Stage(("backbone", "part"), ("fsad.backbones.clip",)),
    "images": Stage((*PLACE, "size", "images"), ("fsad.data.prepare",)),
    "support": Stage((*PLACE, "seed", "size", "images"), ("fsad.data.prepare",)),
    "masks": Stage((*PLACE, "resolution", "images", "masks"), ("fsad.data.prepare",)),
    "prompts": Stage((*PLACE, "text", "states"), ("fsad.data.words",)),
    "features": Stage(
        (*PLACE, "backbone", "readout", "precision", "device", "images", "made_from"),
        ("fsad.backbones.embed",),
    ),
    "run": Stage(
        (
            *("experiment", *PLACE, "task", "shots", "seed", "method", "module"),
            *("backbone", "readout", "options", "support", "made_from"),
        ),
        ("fsad.evaluation.runs",),
    ),
    "panels": Stage(("images", "masks", "run"), ("fsad.reports.panels",)),
    "predictions": Stage(("images", "run"), ("fsad.evaluation.predict",)),
}


def record(stage: str, code: str | None = None, **keys: object) -> dict:
    """The record of an artefact; ValueError unless the keys are those of its stage.

    code: digest of the code, instead of that of the stage's own modules.
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
    """Raise UserError, naming the first difference, unless a record is as expected.

    found: a record, and whatever else is stored with it. expected: some of its keys.
    """
    for name, value in expected.items():
        if _plain(found.get(name)) != _plain(value):
            raise UserError(
                f"{path}: is of {name} {_short(found.get(name))}, not {_short(value)}: "
                "another file in its place, or from another version; delete it and run "
                "again"
            )


def is_same(found: Mapping, expected: Mapping) -> bool:
    """Whether a record has all keys of another with the same values."""
    return all(_plain(found.get(n)) == _plain(value) for n, value in expected.items())


def identity(found: Mapping, without: tuple[str, ...] = ()) -> str:
    """Digest of a record, or of the record among stored settings, but for some keys."""
    keys = {"stage", "code", *STAGES[found["stage"]].keys} - set(without)
    return digest_of({name: found[name] for name in keys})


def _plain(value: object) -> str:
    """A value as JSON, which makes tuples lists and sorts mappings."""
    return json.dumps(value, sort_keys=True)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
