"""YAML files, and options checked against JSON schemas."""

import copy
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, reduce
from operator import getitem
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import best_match

from fsad.errors import UserError

SCHEMAS = Path(__file__).parents[1] / "schemas"
# JSON Schema takes YAML's 2.0 for an integer, and .nan for a number.
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


@cache
def read_schema(name: str) -> dict:
    """Read a schema of the folder `schemas`, cached: do not modify it."""
    return read_yaml(SCHEMAS / f"{name}.schema.yaml")


def read_yaml(path: str | Path) -> dict:
    """Read a YAML mapping; UserError if it is missing or malformed."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: no valid YAML ({reason})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold options as `name: value`")
    for name in _names(content):
        if not isinstance(name, str):
            raise UserError(f"{path}: {name!r} is no word to YAML; put it in quotes")
    return content


def _names(content: object) -> Iterator[object]:
    """Names of all options, including nested ones."""
    if isinstance(content, dict):
        yield from content
    for value in content.values() if isinstance(content, dict) else ():
        yield from _names(value)


def check_options(options: Mapping, schema: Mapping, name: str) -> dict:
    """Validate options against a JSON schema; UserError names `name` and the option."""
    validator = Validator(schema)
    typed = _with_numbers(validator, options)
    error = best_match(validator.iter_errors(typed))
    if error is not None:
        raise UserError(f"{name}: {_explained(error)}")
    return typed


def with_defaults(schema: Mapping | bool | None, value: Mapping) -> dict:
    """Fill in the defaults of a schema for options that are not given."""
    if not isinstance(schema, Mapping):
        return dict(value)
    parts = schema.get("properties", {})
    given = {k: copy.deepcopy(p["default"]) for k, p in parts.items() if "default" in p}
    given |= value
    parts = {key: parts.get(key, schema.get("additionalProperties")) for key in given}
    return {
        key: with_defaults(parts[key], entry) if isinstance(entry, Mapping) else entry
        for key, entry in given.items()
    }


def merged(base: Mapping, update: Mapping) -> dict:
    """Merge `update` into `base`, nested mappings too; neither is modified."""
    result = dict(base)
    for key, value in update.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        result[key] = merged(base[key], value) if both else value
    return result


def _with_numbers(validator: Draft202012Validator, config: Mapping) -> dict:
    """Convert strings to numbers and booleans where the schema requires these.

    Snakemake passes all nested values of --config as strings, and YAML reads `5e-4`
    as a string.
    """
    typed = copy.deepcopy(dict(config))
    for error in [*_with_contexts(validator.iter_errors(typed))]:
        if error.validator == "type" and isinstance(error.instance, str):
            *parents, last = error.absolute_path
            holder = reduce(getitem, parents, typed)
            holder[last] = _number(error.instance)
    return typed


def _with_contexts(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """Errors, and those of each alternative where a value matches none."""
    for error in errors:
        yield error
        if not isinstance(error.instance, str):
            yield from _with_contexts(error.context)


def _number(text: str) -> object:
    for parse in (int, float):
        with suppress(ValueError):
            return parse(text)
    return {"true": True, "false": False}.get(text.lower(), text)


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
