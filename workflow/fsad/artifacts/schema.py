"""YAML files, and options checked against JSON schemas."""

import copy
import difflib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, reduce
from operator import getitem
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import relevance

from fsad.artifacts.files import unreadable
from fsad.artifacts.names import nfc
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
    schema = read_yaml(SCHEMAS / f"{name}.schema.yaml")
    # Inside another schema it would choose jsonschema's validator in place of ours.
    schema.pop("$schema", None)
    return schema


def read_yaml(path: str | Path) -> dict:
    """Read a YAML mapping; UserError if it is missing, malformed or ambiguous."""
    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        _check_keys(path, node)
        content = loader.construct_document(node) if node else None
        names = [*_names(content)]
    except OSError as error:
        raise unreadable(path, error) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: no valid YAML ({reason})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold options as `name: value`")
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"{path}: {name!r} is no word to YAML; put it in quotes")
    return content


def check_yaml(path: str | Path) -> None:
    """Raise UserError if a key stands twice in a YAML file that was read otherwise.

    Of two equal keys in a mapping YAML takes the last, in silence. Keys are compared
    in their composed Unicode form, as names of classes are.
    """
    with suppress(yaml.YAMLError):  # JSON that is no YAML, for example
        _check_keys(path, yaml.compose(Path(path).read_text(encoding="utf-8")))


def _check_keys(path: str | Path, root: yaml.Node | None) -> None:
    for mapping in _mappings(root):
        lines = {}
        for key, _ in mapping.value:
            name, line = nfc(str(key.value)), key.start_mark.line + 1
            if name in lines and name != "<<":
                raise UserError(
                    f"{path}: {name!r} stands twice in one place, in lines "
                    f"{lines[name]} and {line}; join the two or remove one"
                )
            lines[name] = line


def _mappings(root: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """All mappings of a YAML document, each once, however often an alias names it."""
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            nodes += [value for _, value in node.value]
        else:
            nodes += node.value


def _names(content: object) -> Iterator[object]:
    """Names of all options, including nested ones."""
    if isinstance(content, dict):
        yield from content
    for value in content.values() if isinstance(content, dict) else ():
        yield from _names(value)


def check_options(options: Mapping, schema: Mapping, name: str) -> dict:
    """Validate options against a JSON schema; UserError names `name` and the option.

    Returns them with strings converted to numbers where the schema asks for these, and
    with `~` replaced by the home folder in those of `format: path`.
    """
    validator = Validator(schema)
    typed = _with_numbers(validator, options)
    error = max(validator.iter_errors(typed), key=relevance, default=None)
    if error is not None:
        raise UserError(f"{name}: {_explained(error)}")
    return _with_home(schema, typed)


def _with_home(schema: object, value: object) -> object:
    if isinstance(schema, Mapping) and isinstance(value, Mapping):
        parts, others = schema.get("properties", {}), schema.get("additionalProperties")
        return {k: _with_home(parts.get(k, others), v) for k, v in value.items()}
    is_path = isinstance(schema, Mapping) and schema.get("format") == "path"
    return os.path.expanduser(value) if is_path else value


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
        if error.validator in ("type", "enum") and isinstance(error.instance, str):
            *parents, last = error.absolute_path
            holder = reduce(getitem, parents, typed)
            holder[last] = _number(error.instance)
    return typed


def _with_contexts(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """Errors, and those of each alternative where a value matches none."""
    for error in errors:
        yield error
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
    if error.validator == "uniqueItems":
        found = error.instance
        twice = next(x for i, x in enumerate(found) if x in found[:i])
        return f"{where}: must not hold {_shown(twice)} twice"
    if error.validator == "anyOf" and "title" in error.schema:
        return f"{where}: must be {error.schema['title']}, not {_shown(error.instance)}"
    alternatives = error.context or [error]
    for other in error.context:
        if other.path or other.validator not in ("type", "const"):
            return _explained(other)  # of the alternative that has the value's type
    if "propertyNames" in error.absolute_schema_path:
        where = f"{where}: a name"
    expected = " or ".join(map(_expected, alternatives))
    return f"{where or 'file'}: must be {expected}, not {_shown(error.instance)}"


TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "options as `name: value`",
}
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "text of {} or more letters",
    "minItems": "a list of {} or more",
    "maxItems": "a list of {} or fewer",
    "minProperties": "{} or more options as `name: value`",
}


def _expected(error: ValidationError) -> str:
    """The values that a keyword of a schema allows, to stand after `must be`."""
    keyword, limit = error.validator, error.validator_value
    if keyword == "pattern":
        return error.schema["title"]
    if keyword == "enum":
        *names, last = map(_shown, limit)
        return f"{', '.join(names)} or {last}" if names else last
    if keyword == "const":
        return _shown(limit)
    return TYPES[limit] if keyword == "type" else LIMITS[keyword].format(limit)


def _shown(value: object) -> str:
    """A value in an error message, much as YAML would write it."""
    plain = value is None or isinstance(value, bool)
    text = json.dumps(value) if plain else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown_option(where: str, error: ValidationError) -> str:
    known = error.schema["properties"]
    unknown = next(key for key in error.instance if key not in known)
    close = difflib.get_close_matches(str(unknown), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"{_join(where, unknown)}: unknown option; {hint}"


def _join(*parts: object) -> str:
    return ".".join(str(part) for part in parts if part != "")
