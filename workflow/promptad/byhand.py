"""One training outside the pipeline: the pipeline's steps, one after the other."""

from collections.abc import Mapping
from pathlib import Path

from promptad import features, images, panels, prompts, runs
from promptad.backbone import load_backbone
from promptad.backbone_config import backbone_name, check_backbone, image_size
from promptad.config import (
    class_files,
    class_prompts,
    class_support,
    class_tasks,
    run_settings,
)
from promptad.devices import check_device
from promptad.errors import UserError
from promptad.transformer import placed
from promptad.variants import VARIANTS, parse_variant


def train_by_hand(
    config: dict,
    keys: Mapping,
    changed: Mapping,
    root: str | None,
    out: Path,
    vis: bool,
) -> None:
    """Train one class and write its run, and with `vis` its panels, into `out`.

    keys: task, experiment, dataset, class_name, shots and seed. changed: options of
    the training that replace the configured ones. root: folder of the data set, if
    not the configured one. Raises UserError before anything is written.
    """
    _add_variant(config, keys["experiment"])
    _check_names(config, keys)
    _check_free(out)
    check_backbone(config["backbone"])
    check_device(config["device"])
    if root:
        config["datasets"][keys["dataset"]]["root"] = root
    settings = run_settings(config, backbone_name(config["backbone"]), **keys)
    settings["options"] |= changed
    arrays = _load(config, keys, vis)
    tower, tokens, test, support = _prepare(config, keys, arrays)
    masks = arrays["masks"]
    runs.run_from_arrays([out], [settings], tower, tokens, test, [support], masks)
    if vis:
        grids = panels.run_grids(out / "scores.npz")
        panels.write_panels(
            out / "vis", arrays["test"], grids, masks, config["resolution"]
        )


def _load(config: Mapping, keys: Mapping, vis: bool) -> dict:
    """The images `test` and `support`, and `masks` where they are needed."""
    place = keys["dataset"], keys["class_name"]
    files = class_files(config, *place)
    if keys["task"] not in class_tasks(config | {"tasks": ["cls", "seg"]}, files):
        raise UserError(f"{'/'.join(place)}: no masks, seg cannot be trained")
    drawn = class_support(config, *place, files, keys["shots"], keys["seed"])
    threads, resolution = config["threads"], config["resolution"]
    size = image_size(config["backbone"])
    arrays = {"test": images.load_images(files.test, size, threads), "masks": None}
    arrays["support"] = images.load_images(drawn, size, threads)
    if keys["task"] == "seg" or (vis and files.has_masks):
        arrays["masks"] = images.load_masks(files.test, resolution, threads)["masks"]
    return arrays


def _prepare(config: Mapping, keys: Mapping, arrays: Mapping) -> tuple:
    """Text tower, prompt tokens, and features of test and support images."""
    words = class_prompts(config, keys["dataset"], keys["class_name"])
    tokens = prompts.tokenize(words["text"], words["states"])
    vision, text = load_backbone(config["backbone"])
    variant = parse_variant(config["experiments"][keys["experiment"]]["variant"])
    vision = placed(vision, config["device"], config["precision"])
    test = features.embed_test(vision, arrays["test"], variant)
    support = features.embed_support(vision, arrays["support"], test, variant)
    return text, tokens, test, support


def _add_variant(config: dict, experiment: str) -> None:
    """A named variant is an experiment even where the config has none of that name."""
    if experiment in VARIANTS:
        config["experiments"].setdefault(experiment, {"variant": experiment})


def _check_names(config: Mapping, keys: Mapping) -> None:
    for option, known in (("experiment", "experiments"), ("dataset", "datasets")):
        if keys[option] not in config[known]:
            names = ", ".join(config[known])
            raise UserError(
                f"--{option}: {keys[option]!r} is not in the config ({names})"
            )


def _check_free(out: Path) -> None:
    if (out / "metrics.json").exists():
        raise UserError(f"--out: {out} holds a run already; name another folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; name a folder")
