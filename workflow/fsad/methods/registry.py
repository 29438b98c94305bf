"""Methods by name, with the properties that planning needs, without their code."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from fsad.artifacts.code import code_digest
from fsad.artifacts.content import digest_of
from fsad.artifacts.schema import read_schema
from fsad.artifacts.stages import stage_code
from fsad.backbones.readout import Variant, parse_variant


class Entry(NamedTuple):
    """A method.

    module: its name, see `methods.base`. schema: of its options, the name of a file of
    `schemas`. readout: from its options to the features that it reads. flat: from its
    options and the task to those of a run. reads_text: whether it needs a text tower.
    trains: whether fitting takes long, so that a run is a job of its own on a CPU.
    """

    module: str
    schema: str
    readout: Callable[[Mapping], Variant]
    flat: Callable[[Mapping, str], dict]
    reads_text: bool
    trains: bool


def _promptad_readout(options: Mapping) -> Variant:
    return parse_variant(options["variant"])


def _promptad_options(options: Mapping, task: str) -> dict:
    schedule = {name: options[name] for name in ("epochs", "eval_every")}
    training = options["training"]
    return training | schedule | {"n_pro": training["n_pro"][task]}


METHODS = {
    "promptad": Entry(
        module="fsad.methods.promptad.method",
        schema="methods/promptad",
        readout=_promptad_readout,
        flat=_promptad_options,
        reads_text=True,
        trains=True,
    )
}


def load(name: str) -> ModuleType:
    """The module of a method."""
    return import_module(METHODS[name].module)


@cache
def method_code(name: str) -> str:
    """Digest of the code that makes the runs of a method.

    It covers the runner, and the method's module, schema and entry here, but nothing of
    other methods.
    """
    entry = METHODS[name]
    described = [x.__name__ if callable(x) else x for x in entry]
    code = code_digest(entry.module)
    return digest_of(stage_code("run"), code, read_schema(entry.schema), described)
