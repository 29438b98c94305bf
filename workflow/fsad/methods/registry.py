"""Methods by name, with the properties that planning needs, without their code."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from fsad.artifacts.code import code_digest
from fsad.artifacts.content import digest_of
from fsad.artifacts.paths import Run
from fsad.artifacts.schema import read_schema
from fsad.artifacts.stages import stage_code
from fsad.backbones.readout import (
    Readout,
    named_readout,
    parse_variant,
    variant_readout,
)
from fsad.data.augment import Augment
from fsad.data.views import View

# Classes of MVTec AD whose background AnomalyDINO masks; of VisA these are all.
MASKED = {"mvtec": ("capsule", "hazelnut", "pill", "screw", "toothbrush")}


class Entry(NamedTuple):
    """A method.

    module: its name, see `methods.base`. schema: of its options, the name of a file of
    `schemas`. readout: from its options and the size of images in pixels to the
    features that it reads. flat: from its options, the run and its backbone to those of
    the run. reads_text: whether it needs a text tower. trains: whether it has epochs,
    so that a run is a job of its own on a CPU; else both tasks read one prediction.
    zero_shot: whether it also works without support images.
    """

    module: str
    schema: str
    readout: Callable[[Mapping, int], Readout]
    flat: Callable[[Mapping, Run, Mapping], dict]
    reads_text: bool
    trains: bool
    zero_shot: bool = False


def _promptad_readout(options: Mapping, size: int) -> Readout:
    return variant_readout(parse_variant(options["variant"]), _view(options, size))


def _view(options: Mapping, size: int) -> View:
    """The view of options whose `tiles` are not `auto`, see `options.auto_tiles`."""
    tiles = options["tiles"]
    if tiles == "none":
        return View(options["fit"], size)
    grid, overlap = tiles.get("grid"), tiles.get("overlap", 0.0)
    cut = {"grid": grid and tuple(grid), "tile": tiles.get("size"), "overlap": overlap}
    return View(options["fit"], size, **cut, whole=options["whole"])


def _promptad_options(options: Mapping, run: Run, backbone: Mapping) -> dict:
    schedule = {name: options[name] for name in ("epochs", "eval_every")}
    training = options["training"]
    return training | schedule | {"n_pro": training["n_pro"][run.task]}


def _neighbourhoods(options: Mapping, size: int) -> Readout:
    names = ("layers", "layer_width", "patch_width")
    fields = {name: options[name] for name in names}
    return named_readout("neighbourhoods", _view(options, size), Augment(), fields)


def _last_tokens(options: Mapping, size: int) -> Readout:
    fields = {"blocks": "last", "norm": True, "moments": False}
    copies = Augment("rotations", options["rotations"])
    return named_readout("tokens", _view(options, size), copies, fields)


def _moments(options: Mapping, size: int) -> Readout:
    fields = {"blocks": options["blocks"], "norm": False, "moments": True}
    copies = Augment("random_rotations", options["rotations"])
    return named_readout("tokens", _view(options, size), copies, fields)


def _windows(options: Mapping, size: int) -> Readout:
    fields = {"scales": sorted(options["scales"]), "norm": options["patch_norm"]}
    return named_readout("windows", _view(options, size), Augment(), fields)


def _own(options: Mapping, run: Run, backbone: Mapping) -> dict:
    return dict(options)


def _anomalydino_options(options: Mapping, run: Run, backbone: Mapping) -> dict:
    """`mask: auto` is as published, for classes that the paper masks and DINOv2."""
    if options["mask"] != "auto":
        return dict(options)
    masked = run.class_name in MASKED.get(run.dataset, ())
    published = run.dataset == "visa" or masked
    chosen = "published" if published and "dinov2" in backbone["model"] else "none"
    return options | {"mask": chosen}


def _untrained(name: str, readout: Callable, flat: Callable) -> Entry:
    """The entry of a method without training and text."""
    return Entry(f"fsad.methods.{name}", f"methods/{name}", readout, flat, False, False)


METHODS = {
    "promptad": Entry(
        module="fsad.methods.promptad.method",
        schema="methods/promptad",
        readout=_promptad_readout,
        flat=_promptad_options,
        reads_text=True,
        trains=True,
    ),
    "patchcore": _untrained("patchcore", _neighbourhoods, _own),
    "anomalydino": _untrained("anomalydino", _last_tokens, _anomalydino_options),
    "subspacead": _untrained("subspacead", _moments, _own),
    "winclip": Entry(
        module="fsad.methods.winclip",
        schema="methods/winclip",
        readout=_windows,
        flat=_own,
        reads_text=True,
        trains=False,
        zero_shot=True,
    ),
}


def method_schema(name: str) -> dict:
    """The schema of the options of a method, those of views among them."""
    own, view = read_schema(METHODS[name].schema), read_schema("view")
    shared = {key: view[key] | own.get(key, {}) for key in ("properties", "$defs")}
    return own | shared


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
    return digest_of(stage_code("run"), code, method_schema(name), described)
