"""The configuration: checked, completed, and resolved for one training."""

import copy
import difflib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import reduce
from operator import getitem
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import best_match

from promptad import layouts
from promptad.errors import UserError
from promptad.prompts import check_state, class_words
from promptad.support import draw_support
from promptad.variants import parse_variant, variant_name

SCHEMAS = Path(__file__).parents[1] / "schemas"
SCHEMA = SCHEMAS / "config.schema.yaml"
PROMPTS_SCHEMA = SCHEMAS / "prompts.schema.yaml"
PROMPTS = Path(__file__).parents[2] / "config/prompts"
TRAINING_KEYS = ("epochs", "eval_every", "training")
# YAML's 2.0 and .nan are numbers to JSON Schema, 2.0 even an integer.
Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: type(value) is int,
            "number": lambda _, value: (
                type(value) in (int, float) and math.isfinite(value)
            ),
        }
    ),
)


def complete(config: Mapping) -> dict:
    """Check a configuration and fill in every default.

    Raises UserError naming a wrong or unknown option.
    """
    schema = read_yaml(SCHEMA)
    typed = check_options(config, schema, "config")
    completed = _with_defaults(schema, typed)
    general = schema["properties"]["training"]["default"]
    completed["training"] = _merge(general, completed["training"])
    completed["results"] = _spelt_once(completed["results"])
    _check_meaning(completed)
    return completed


def _spelt_once(folder: str) -> str:
    """The shortest name of a folder: to Snakemake another one is another folder, of
    whose files it does not know what made them."""
    inside = os.path.relpath(folder)
    return os.path.normpath(folder) if inside.startswith(os.pardir) else inside


def check_options(options: Mapping, schema: Mapping, name: str) -> dict:
    """Options that fit a JSON schema; UserError names what of `name` does not."""
    validator = Validator(schema)
    typed = _with_numbers(validator, options)
    error = best_match(validator.iter_errors(typed))
    if error is not None:
        raise UserError(f"{name}: {_explained(error)}")
    return typed


def read_yaml(path: str | Path) -> dict:
    """Read a YAML mapping; UserError if it is missing or malformed."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: no valid YAML ({' '.join(str(error).split())})"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold options as `name: value`")
    for name in _names(content):
        if not isinstance(name, str):
            raise UserError(f"{path}: {name!r} is no word to YAML; put it in quotes")
    return content


def _names(content: object) -> Iterator[object]:
    """The names of all options, nested ones too."""
    if isinstance(content, dict):
        yield from content
    for part in content.values() if isinstance(content, dict) else ():
        yield from _names(part)


def class_names(dataset: Mapping) -> list[str]:
    """The classes of a data set: as configured, or all that its folder holds."""
    if dataset["classes"] != "all":
        return list(dataset["classes"])
    found = layouts.list_classes(dataset["layout"], dataset["root"])
    if not found:
        raise UserError(
            f"{dataset['root']}: holds no CLASS/train/good folder; mend `root`"
        )
    for name in found:
        if "{" in name or "}" in name:
            raise UserError(
                f"{dataset['root']}/{name}: has curly brackets in its name; rename it"
            )
    return found


def class_files(config: Mapping, dataset: str, class_name: str) -> layouts.ClassFiles:
    """The files of one class."""
    source = config["datasets"][dataset]
    return layouts.list_class(source["layout"], source["root"], class_name)


def class_override(config: Mapping, dataset: str, class_name: str) -> dict:
    """What the configuration says of this class alone."""
    return config["overrides"].get(dataset, {}).get(class_name, {})


def class_support(
    config: Mapping,
    dataset: str,
    class_name: str,
    files: layouts.ClassFiles,
    shots: int,
    seed: int,
) -> list[layouts.Sample]:
    """The support images of one draw from the files of a class; see `draw_support`."""
    chosen = class_override(config, dataset, class_name).get("support")
    return draw_support(files.train, class_name, shots, seed, chosen)


def class_prompts(config: Mapping, dataset: str, class_name: str) -> dict:
    """Words of a class and its abnormal states, `text` and `states`."""
    path = config["datasets"][dataset].get("prompts")
    known = _read_prompts(path, f"datasets.{dataset}.prompts", class_name)
    merged = known | class_override(config, dataset, class_name)
    states = [*config["states"], *merged.get("states", [])]
    for state in states:
        check_state(state)
    if not states:
        raise UserError(f"states: none for {class_name}; name at least one")
    return {"text": merged.get("text", class_words(class_name)), "states": states}


def _read_prompts(path: str | None, option: str, class_name: str) -> dict:
    if path is None:
        return {}
    try:
        known = read_yaml(path).get(class_name, {})
        if not isinstance(known, dict):
            raise UserError(f"{path}: {class_name}: must hold `text` or `states`")
        return check_options(known, read_yaml(PROMPTS_SCHEMA), f"{path}: {class_name}")
    except UserError as error:
        raise UserError(f"{option}: {error}") from None


def training_options(
    config: Mapping, experiment: str, dataset: str, class_name: str, task: str
) -> dict:
    """The flat options of one training: general, then experiment, then class."""
    layers = (
        config,
        config["experiments"][experiment],
        class_override(config, dataset, class_name),
    )
    merged = {}
    for layer in layers:
        merged = _merge(merged, {k: layer[k] for k in TRAINING_KEYS if k in layer})
    options = merged.pop("training") | merged
    return options | {"n_pro": options["n_pro"][task]}


def class_tasks(config: Mapping, files: layouts.ClassFiles) -> list[str]:
    """The configured tasks that a class has the data for: seg needs masks."""
    return [task for task in config["tasks"] if task == "cls" or files.has_masks]


def run_settings(
    config: Mapping,
    backbone: str,
    task: str,
    experiment: str,
    dataset: str,
    class_name: str,
    shots: int,
    seed: int,
) -> dict:
    """All that identifies a run, and under `options` what it is trained with.

    backbone: see `backbone_config.backbone_name`.
    """
    variant = parse_variant(config["experiments"][experiment]["variant"])
    return {
        "experiment": experiment,
        "dataset": dataset,
        "class": class_name,
        "task": task,
        "shots": int(shots),
        "seed": int(seed),
        "variant": variant_name(variant),
        "backbone": backbone,
        "options": run_options(config, task, experiment, dataset, class_name, seed),
    }


def run_options(
    config: Mapping,
    task: str,
    experiment: str,
    dataset: str,
    class_name: str,
    seed: int,
) -> dict:
    """All options that `runs.train` takes for a run."""
    options = training_options(config, experiment, dataset, class_name, task)
    shared = {key: config[key] for key in ("resolution", "device", "precision")}
    return options | shared | {"seed": int(seed)}


def _merge(base: Mapping, update: Mapping) -> dict:
    merged = dict(base)
    for key, value in update.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def _with_numbers(validator: Draft202012Validator, config: Mapping) -> dict:
    """`config` with the strings made numbers and booleans that must be such.

    Snakemake passes all that is nested in --config as strings, and YAML reads
    `5e-4` as one.
    """
    typed = copy.deepcopy(dict(config))
    for error in [*_with_contexts(validator.iter_errors(typed))]:
        if error.validator == "type" and isinstance(error.instance, str):
            *parents, last = error.absolute_path
            holder = reduce(getitem, parents, typed)
            holder[last] = _number(error.instance)
    return typed


def _with_contexts(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """Errors, and those within the alternatives that a value fits none of."""
    for error in errors:
        yield error
        if not isinstance(error.instance, str):
            yield from _with_contexts(error.context)


def _number(text: str) -> object:
    for parse in (int, float):
        with suppress(ValueError):
            return parse(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def _with_defaults(schema: Mapping | bool | None, value: Mapping) -> dict:
    """`value` with the schema's defaults where it says nothing."""
    if not isinstance(schema, Mapping):
        return dict(value)
    parts = schema.get("properties", {})
    given = {k: copy.deepcopy(p["default"]) for k, p in parts.items() if "default" in p}
    given |= value
    parts = {key: parts.get(key, schema.get("additionalProperties")) for key in given}
    return {
        key: _with_defaults(parts[key], entry) if isinstance(entry, Mapping) else entry
        for key, entry in given.items()
    }


def _check_meaning(config: Mapping) -> None:
    if config["gpus"] and config["device"] != "cuda":
        raise UserError(
            f"config: gpus: needs `device: cuda`, not {config['device']}; each job "
            "sees the GPU of its slot alone"
        )
    for name, experiment in config["experiments"].items():
        try:
            parse_variant(experiment["variant"])
        except UserError as error:
            raise UserError(f"config: experiments.{name}.{error}") from None
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


def _explained(error: ValidationError) -> str:
    where = _join(*error.absolute_path)
    if error.validator == "additionalProperties":
        return _unknown_option(where, error)
    if error.validator == "required":
        missing = next(
            key for key in error.validator_value if key not in error.instance
        )
        return f"{_join(where, missing)}: must be given"
    return f"{where or 'file'}: {error.message}"


def _unknown_option(where: str, error: ValidationError) -> str:
    known = error.schema["properties"]
    unknown = next(key for key in error.instance if key not in known)
    close = difflib.get_close_matches(str(unknown), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"{_join(where, unknown)}: unknown option; {hint}"


def _join(*parts: object) -> str:
    return ".".join(str(part) for part in parts if part != "")
