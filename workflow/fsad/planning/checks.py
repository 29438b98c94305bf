"""A checked plan: errors now, not hours later, and notes on what is left out."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from os.path import exists
from pathlib import Path

from fsad.artifacts.digests import check_files
from fsad.artifacts.paths import Place
from fsad.data.layouts import root_notes
from fsad.errors import UserError
from fsad.planning import options
from fsad.planning.counts import tiles
from fsad.planning.disk import feature_sizes
from fsad.planning.plan import Plan
from fsad.planning.predictions import images_to_predict, run_of


def make_plan(config: Mapping, strict: bool = True) -> Plan:
    """The plan of a configuration. Raises UserError if it, or a class of it, is not as
    it should be.

    strict: without, classes that cannot be listed are left out, and nothing is checked.
    """
    plan = Plan(config, strict)
    if strict:
        _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Fail now, not hours later, where a class cannot be trained; list files that
    are not read."""
    for place, files in plan.classes.items():
        draws = [plan.draw(place, seed) for seed in plan.config["seeds"]]
        samples = [s for drawn in (files.test, *draws) for s in drawn]
        check_files([*(s.path for s in samples), *files.mask_files])
        options.class_prompts(plan.config, *place)
        options.class_region(plan.config, *place, files.train[0].path)
    for note in _notes(plan):
        print(note, file=sys.stderr)
    if plan.classes and not plan.runs:
        raise UserError("config: tasks: seg alone, and no class has masks for it")
    for name in plan.config["predict"]:
        run_of(plan, name), images_to_predict(plan, name)
    _check_disk(plan)


def _check_disk(plan: Plan) -> None:
    """Print the disk space that features need; raise UserError if less is free."""
    sizes = feature_sizes(plan).items()
    needed = sum(size for path, size in sizes if not exists(path)) / 1e9
    place = Path(plan.config["results"]).absolute()
    there = next(p for p in (place, *place.parents) if p.exists())
    free = shutil.disk_usage(there).free / 1e9
    if needed > free:
        raise UserError(
            f"config: results: features need {needed:.1f} GB, {there} has "
            f"{free:.1f} free; name another folder, or set `keep_features: false`"
        )
    if needed >= 0.1:
        text = f"features: {needed:.1f} GB to make, {free:.1f} GB are free"
        print(text, file=sys.stderr)


def _notes(plan: Plan) -> Iterator[str]:
    """What is left out, of each experiment, data set and class."""
    for name in filter(plan.skips_shots, plan.names()):
        method = plan.config["experiments"][name]["method"]
        yield f"{name}: {method} needs support images, 0 of `shots` is skipped"
    for dataset, source in plan.config["datasets"].items():
        names = [name for x, name in plan.classes if x == dataset]
        notes = options.prompts_notes(plan.config, dataset, names)
        if source["classes"] == "all":
            notes += root_notes(source["layout"], source["root"], names)
        yield from (f"{dataset}: {note}" for note in notes)
    for place, files in plan.classes.items():
        skipped = "seg" in plan.config["tasks"] and not files.has_seg
        notes = [*files.notes, *["no masks, seg is skipped"] * skipped]
        for note in [*notes, *_tile_notes(plan, place)]:
            yield f"{'/'.join(place)}: {note}"


def _tile_notes(plan: Plan, place: Place) -> Iterator[str]:
    """The tiles of a class, and what they cost."""
    for name in plan.names():
        view, passes = plan.readout(name, place).view, tiles(plan, name, place)
        if view.is_tiled:
            cut = view.name.partition("_tiles")[2].replace("_", " and ")
            yield f"{name}: tiles {cut}, {passes} passes of the backbone an image"
