import pytest

from fsad.artifacts.schema import (
    check_options,
    merged,
    read_schema,
    read_yaml,
    with_defaults,
)
from fsad.errors import UserError

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["root"],
    "properties": {
        "root": {"type": "string"},
        "epochs": {"type": "integer", "default": 100},
        "training": {
            "type": "object",
            "default": {},
            "properties": {"lr": {"type": "number", "default": 0.1}},
        },
        "variant": {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"ffn": {"type": "boolean"}}},
            ],
        },
    },
}


def checked(**options):
    return check_options({"root": "a", **options}, SCHEMA, "config")


def test_defaults_are_filled_in_at_any_depth():
    given = {"root": "a", "training": {"momentum": 1}}
    assert with_defaults(SCHEMA, given) == {
        "root": "a",
        "epochs": 100,
        "training": {"lr": 0.1, "momentum": 1},
    }
    assert given == {"root": "a", "training": {"momentum": 1}}


def test_nested_options_are_merged():
    base, update = {"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 4}, "b": {"z": 5}}
    assert merged(base, update) == {"a": {"x": 1, "y": 4}, "b": {"z": 5}}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}


def test_strings_are_converted_where_the_schema_requires_it():
    assert checked(epochs="3", training={"lr": "5e-4"}, root="7") == {
        **{"root": "7", "epochs": 3},
        "training": {"lr": 0.0005},
    }
    assert checked(variant="1")["variant"] == "1"
    assert checked(variant={"ffn": "True"})["variant"] == {"ffn": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 2.0}, "epochs: 2.0 is not of type 'integer'"),
        ({"training": {"lr": float("nan")}}, "training.lr: nan is not of type"),
        ({"epoch": 3}, "epoch: unknown option; did you mean 'epochs'?"),
        ({"xyz": 3}, "xyz: unknown option; known are root, epochs"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(UserError) as raised:
        checked(**options)
    assert str(raised.value).startswith(f"config: {message}")


def test_a_missing_option_is_named():
    with pytest.raises(UserError, match="config: root: must be given"):
        check_options({}, SCHEMA, "config")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"a\.yaml: cannot be read \(No such file"),
        ("a: [", r"a\.yaml: no valid YAML"),
        ("- a", r"a\.yaml: must hold options"),
        ("a: {on: 1}", r"a\.yaml: True is no word to YAML"),
    ],
)
def test_a_file_that_holds_no_options_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", ["config", "prompts", "methods/promptad"])
def test_schemas_of_the_package_are_read(name):
    assert read_schema(name)["type"] == "object"
