"""The configuration: checked, completed, and resolved for one run."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from fsad.artifacts.names import nfc
from fsad.artifacts.paths import Place, Run, parse_run
from fsad.artifacts.schema import (
    check_options,
    merged,
    read_schema,
    read_yaml,
    with_defaults,
)
from fsad.backbones.readout import Readout, described
from fsad.backbones.spec import (
    OPEN_CLIP,
    complete_backbone,
    image_size,
    named_backbone,
)
from fsad.data import layouts
from fsad.data.decode import picture_shape
from fsad.data.layouts import ClassFiles
from fsad.data.region import check_region, read_region
from fsad.data.support import draw_support
from fsad.data.tiles import auto_grid
from fsad.data.words import check_state, class_words, prompts_file, read_prompts
from fsad.errors import UserError
from fsad.methods.registry import METHODS, Entry, method_code, method_schema

METHOD = "promptad"  # of an experiment that names none
GENERAL = ("epochs", "eval_every", "training")  # options of methods, at the top as well
OF_ALL_METHODS = ("resolution", "device", "precision")
LOOKED_AT = 25  # images of a class, whose shapes decide on its tiles
SHAPES = "picture_shapes"  # a key that a plan adds, see `with_shapes`


def config_schema() -> dict:
    """The schema of the configuration, with definitions that methods share with it."""
    schema = read_schema("config")
    shared = method_schema(METHOD)["$defs"]
    return schema | {"$defs": shared | schema["$defs"]}


def complete(config: Mapping) -> dict:
    """Check a configuration and fill in every default.

    Raises UserError naming a wrong or unknown option.
    """
    schema = config_schema()
    _check_former(config)
    config = {name: value for name, value in config.items() if name != SHAPES}
    completed = with_defaults(schema, check_options(config, schema, "config"))
    general = schema["properties"]["training"]["default"]
    completed["training"] = merged(general, completed["training"])
    completed["results"] = _shortest(completed["results"])
    _compose_names(completed)
    for name, backbone in completed["backbones"].items():
        with named_backbone(name):
            completed["backbones"][name] = complete_backbone(backbone)
    experiments = completed["experiments"].items()
    completed["experiments"] = {
        name: _experiment(name, x, completed["backbones"]) for name, x in experiments
    }
    _check_meaning(completed)
    return completed


def _compose_names(config: dict) -> None:
    """Names of classes in their composed Unicode form, as they are listed."""
    for source in config["datasets"].values():
        if source["classes"] != "all":
            source["classes"] = [nfc(name) for name in source["classes"]]
    overrides = config["overrides"].items()
    config["overrides"] = {
        dataset: {nfc(name): options for name, options in classes.items()}
        for dataset, classes in overrides
    }
    for source in config["predict"].values():
        source["run"] = nfc(source["run"])


def _shortest(folder: str) -> str:
    """The shortest name of a folder: to Snakemake another name is another folder, of
    whose files it has no records."""
    inside = os.path.relpath(folder)
    return os.path.normpath(folder) if inside.startswith(os.pardir) else inside


def _check_former(config: Mapping) -> None:
    """Raise UserError with what to write in place of `backbone` of former versions."""
    if "backbone" in config:
        found = config["backbone"] if isinstance(config["backbone"], Mapping) else {}
        entry = ", ".join(f"{key}: {value}" for key, value in found.items())
        raise UserError(
            "config: backbone: each has a name now; write `backbones:` and in the next "
            f"line `  clip: {{{entry}}}`"
        )


def _experiment(name: str, options: Mapping, backbones: Mapping) -> dict:
    """An experiment with its method and backbone, its options checked by the method's
    schema."""
    method, chosen = options["method"], options.get("backbone")
    where = f"config: experiments.{name}"
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise UserError(f"{where}.method: {method!r} is unknown; take {known}")
    chosen = _chosen_backbone(where, method, chosen, backbones)
    own = {k: v for k, v in options.items() if k not in ("method", "backbone")}
    schema = method_schema(method)
    nested = {"properties": {"experiments": {"additionalProperties": schema}}}
    nested["$defs"] = schema.get("$defs", {})
    checked = check_options({"experiments": {name: own}}, nested, "config")
    own = with_defaults(schema, checked["experiments"][name])
    try:
        METHODS[method].readout(own | {"tiles": "none"}, 0)
    except UserError as error:
        raise UserError(f"{where}.{error}") from None
    return {"method": method, "backbone": chosen, **own}


def _chosen_backbone(
    where: str, method: str, chosen: str | None, backbones: Mapping
) -> str:
    """The backbone of an experiment: named, or the only one there."""
    known = ", ".join(backbones)
    if chosen is None and len(backbones) > 1:
        raise UserError(f"{where}.backbone: must be given, one of {known}")
    chosen = next(iter(backbones)) if chosen is None else chosen
    if chosen not in backbones:
        raise UserError(f"{where}.backbone: {chosen!r} is unknown; take {known}")
    if METHODS[method].reads_text and backbones[chosen]["library"] != OPEN_CLIP:
        raise UserError(
            f"{where}.backbone: {chosen} has no text tower, which {method} reads; take "
            "one of library open_clip"
        )
    return chosen


def experiment_method(config: Mapping, experiment: str) -> Entry:
    """The entry of an experiment's method in the registry."""
    return METHODS[config["experiments"][experiment]["method"]]


def has_zero_shots(config: Mapping, experiment: str) -> bool:
    """Whether an experiment has runs without support images."""
    return 0 in config["shots"] and experiment_method(config, experiment).zero_shot


def experiment_backbone(config: Mapping, experiment: str) -> dict:
    """The options of an experiment's backbone."""
    return config["backbones"][config["experiments"][experiment]["backbone"]]


def experiment_readout(config: Mapping, experiment: str, place: Place) -> Readout:
    """The features that an experiment reads of a class; place: data set and class."""
    size = image_size(experiment_backbone(config, experiment))
    options = class_options(config, experiment, place)
    return experiment_method(config, experiment).readout(options, size)


def class_options(config: Mapping, experiment: str, place: Place) -> dict:
    """The options of a method for a class: general, of the experiment, of the class.

    `tiles` that are `auto` are resolved; without any, position and whole do nothing,
    and have their defaults.
    """
    known = method_schema(config["experiments"][experiment]["method"])["properties"]
    layers = (
        {name: config[name] for name in GENERAL},
        config["experiments"][experiment],
        class_override(config, *place),
    )
    options = {}
    for layer in layers:
        own = {k: v for k, v in layer.items() if k in known}
        options = merged(options, own)
        options |= {"tiles": own["tiles"]} if "tiles" in own else {}
    if options["tiles"] == "auto":
        options["tiles"] = _auto_tiles(config, experiment, place, options["max_tiles"])
    if options["tiles"] == "none":
        options |= {name: known[name]["default"] for name in ("position", "whole")}
    del options["max_tiles"]
    return options


def _auto_tiles(
    config: Mapping, experiment: str, place: Place, most: int
) -> dict | str:
    dataset, name = place
    size = image_size(experiment_backbone(config, experiment))
    grid = auto_grid(config[SHAPES][dataset][name], size, most)
    return {"grid": list(grid)} if grid else "none"


def with_shapes(config: dict, classes: Mapping[tuple[str, str], ClassFiles]) -> dict:
    """The configuration with height and width of the images of each class, where an
    experiment or class has tiles: medians of some good training images."""
    shapes = {}
    tiles = [x["tiles"] for x in config["experiments"].values()]
    for (dataset, name), files in classes.items():
        own = class_override(config, dataset, name).get("tiles", "none")
        if any(x != "none" for x in (own, *tiles)):
            shapes.setdefault(dataset, {})[name] = _usual_shape(files.train)
    return config | {SHAPES: shapes}


def _usual_shape(samples: list[layouts.Sample]) -> list[int]:
    step = max(1, len(samples) // LOOKED_AT)
    shapes = [picture_shape(sample.path) for sample in samples[::step]]
    return [sorted(sides)[len(sides) // 2] for sides in zip(*shapes, strict=True)]


def class_names(dataset: Mapping) -> list[str]:
    """The classes of a data set: as configured, or all in its folder."""
    if dataset["classes"] != "all":
        return list(dataset["classes"])
    found = layouts.list_classes(dataset["layout"], dataset["root"])
    if not found:
        raise UserError(
            f"{dataset['root']}: holds no CLASS/train/good folder; mend `root`"
        )
    return found


def class_files(config: Mapping, dataset: str, class_name: str) -> ClassFiles:
    """The files of one class."""
    source = config["datasets"][dataset]
    return layouts.list_class(source["layout"], source["root"], class_name)


def class_override(config: Mapping, dataset: str, class_name: str) -> dict:
    """The options of this class alone."""
    return config["overrides"].get(dataset, {}).get(class_name, {})


def class_region(
    config: Mapping, dataset: str, class_name: str, image: Path | None = None
) -> np.ndarray | None:
    """The region of interest of a class, bool [H, W], or None.

    image: of the class, whose shape it must have. Raises UserError if it is not to be
    read, covers nothing, or has another shape.
    """
    path = class_override(config, dataset, class_name).get("roi")
    if path is None:
        return None
    try:
        region = read_region(path)
        if image is not None:
            check_region(region, image, picture_shape(image))
    except UserError as error:
        where = f"config: overrides.{dataset}.{class_name}.roi"
        raise UserError(f"{where}: {error}") from None
    return region


def class_support(
    config: Mapping,
    place: Place,
    train: list[layouts.Sample],
    shots: int,
    seed: int,
) -> list[layouts.Sample]:
    """The support images of one draw; place: data set and class. See `draw_support`."""
    chosen = class_override(config, *place).get("support")
    return draw_support(train, place[1], shots, seed, chosen)


def class_prompts(config: Mapping, dataset: str, class_name: str) -> dict:
    """Words of a class and its abnormal states, `text` and `states`."""
    known, source = {}, config["datasets"][dataset].get("prompts")
    if source is not None:
        try:
            known = read_prompts(source, class_name)
        except UserError as error:
            raise UserError(f"datasets.{dataset}.prompts: {error}") from None
    known |= class_override(config, dataset, class_name)
    states = [*config["states"], *known.get("states", [])]
    for state in states:
        check_state(state)
    if not states:
        raise UserError(f"states: none for {class_name}; name at least one")
    return {"text": known.get("text", class_words(class_name)), "states": states}


def prompts_notes(config: Mapping, dataset: str, classes: list[str]) -> list[str]:
    """A note of the classes that the file of prompts of a data set does not name."""
    source = config["datasets"][dataset].get("prompts")
    if source is None:
        return []
    known = set(map(nfc, read_yaml(prompts_file(source))))
    missing = [name for name in classes if nfc(name) not in known]
    if not missing:
        return []
    why = "the words of a class are its name; correct the names in the file"
    return [f"prompts: {source} does not name {', '.join(missing)}: {why}"]


def class_tasks(config: Mapping, files: ClassFiles) -> list[str]:
    """The configured tasks that a class has the data for, see `ClassFiles.has_seg`."""
    return [task for task in config["tasks"] if task == "cls" or files.has_seg]


def run_settings(config: Mapping, run: Run) -> dict:
    """The part of a run's record that follows from the configuration alone."""
    method = config["experiments"][run.experiment]["method"]
    return {
        "stage": "run",
        "experiment": run.experiment,
        "dataset": run.dataset,
        "class": run.class_name,
        "task": run.task,
        "shots": run.shots,
        "seed": run.seed,
        "method": method,
        "module": METHODS[method].module,
        "readout": described(experiment_readout(config, run.experiment, run.place)),
        "options": run_options(config, run),
        "code": method_code(method),
    }


def planned_runs(config: Mapping, metrics: Iterable[str]) -> dict[str, dict]:
    """What the record of the run of each metrics.json must hold, by path."""
    runs = {path: parse_run(Path(path).parent)[1] for path in metrics}
    return {path: run_settings(config, run) for path, run in runs.items()}


def run_options(config: Mapping, run: Run) -> dict:
    """The options of a run."""
    entry, backbone = (
        find(config, run.experiment)
        for find in (experiment_method, experiment_backbone)
    )
    options = class_options(config, run.experiment, run.place)
    shared = {name: config[name] for name in OF_ALL_METHODS}
    shared |= {name: options[name] for name in ("position", "whole")}
    return entry.flat(options, run, backbone) | shared


def _check_meaning(config: Mapping) -> None:
    if config["gpus"] and config["device"] != "cuda":
        raise UserError(
            f"config: gpus: needs `device: cuda`, not {config['device']}; each job "
            "sees the GPU of its slot alone"
        )
    can = any(has_zero_shots(config, name) for name in config["experiments"])
    if config["shots"] == [0] and not can:
        raise UserError(
            "config: shots: 0 alone, and no method of `experiments` works without "
            "support images; take winclip, or more shots"
        )
    for dataset, classes in config["overrides"].items():
        known = config["datasets"].get(dataset)
        if known is None:
            raise UserError(
                f"config: overrides.{dataset}: no such data set in `datasets`"
            )
        unknown = set(classes) - set(class_names(known))
        if unknown:
            raise UserError(
                f"config: overrides.{dataset}.{min(unknown)}: no such class there"
            )
