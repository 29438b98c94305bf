import pytest

from fsad.artifacts.schema import (
    check_options,
    check_yaml,
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
        "root": {"type": "string", "pattern": "^[^x]*$", "title": "lower case"},
        "epochs": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
        "training": {
            "type": "object",
            "default": {},
            "properties": {
                "lr": {"type": "number", "exclusiveMinimum": 0, "default": 0.1}
            },
        },
        "tasks": {
            "anyOf": [
                {"const": "all"},
                {
                    "type": "array",
                    "minItems": 1,
                    "uniqueItems": True,
                    "items": {"enum": ["cls", "seg"]},
                },
            ]
        },
        "named": {"propertyNames": {"pattern": "^[a-z]+$", "title": "one word"}},
        "image": {"type": "string", "format": "path"},
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
        ({"epochs": 2.0}, "epochs: must be a whole number, not 2.0"),
        ({"epochs": "many"}, "epochs: must be a whole number, not 'many'"),
        ({"epochs": None}, "epochs: must be a whole number, not null"),
        ({"epochs": 0}, "epochs: must be at least 1, not 0"),
        ({"epochs": 2000}, "epochs: must be at most 1000, not 2000"),
        ({"training": {"lr": float("nan")}}, "training.lr: must be a number, not nan"),
        ({"training": {"lr": 0}}, "training.lr: must be above 0, not 0"),
        ({"training": 3}, "training: must be options as `name: value`, not 3"),
        ({"root": "x" * 90}, f"root: must be lower case, not '{'x' * 56}..."),
        ({"variant": 3}, "variant: must be text or options as `name: value`, not 3"),
        ({"variant": {"ffn": 3}}, "variant.ffn: must be true or false, not 3"),
        ({"tasks": []}, "tasks: must be a list of 1 or more, not []"),
        ({"tasks": ["cls", "cls"]}, "tasks: must not hold 'cls' twice"),
        ({"tasks": ["det"]}, "tasks.0: must be 'cls' or 'seg', not 'det'"),
        ({"tasks": "cls"}, "tasks: must be 'all' or a list, not 'cls'"),
        ({"named": {"a b": 1}}, "named: a name: must be one word, not 'a b'"),
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
        (None, r"a\.yaml: no such file"),
        ("a: [", r"a\.yaml: no valid YAML"),
        ("- a", r"a\.yaml: must hold options"),
        ("a: {on: 1}", r"a\.yaml: True is no word to YAML"),
        ("a: 2020-13-45", r"a\.yaml: no valid YAML \(month must be"),
        ("a: &a {b: *a}", r"a\.yaml: no valid YAML"),
        (
            "a: 1\nb: 2\na: 3",
            r"a\.yaml: 'a' stands twice in one place, in lines 1 and 3",
        ),
        ("b: [{a: 1, 'a': 2}]", "'a' stands twice in one place, in lines 1 and 1"),
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


MERGED = "x: &x {a: 1}\ny: &y {<<: *x, a: 2}\nz: [{<<: *y, a: 3}, {a: 4}]\n"


def test_the_same_key_in_two_places_is_no_fault(tmp_path):
    (tmp_path / "a.yaml").write_text(MERGED)
    assert read_yaml(tmp_path / "a.yaml")["z"] == [{"a": 3}, {"a": 4}]
    check_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["", "a: [", '{\n\t"a": 1}', "- 1"])
def test_of_what_snakemake_reads_only_keys_are_checked(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    check_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("b:\n  c: 1\n  d: 2\n  c: 3\n")
    with pytest.raises(UserError, match="'c' stands twice in one place, in lines 2 an"):
        check_yaml(tmp_path / "a.yaml")


def test_the_home_folder_is_expanded_in_paths_alone(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    found = checked(image="~/new", named={"a": "~/new"})
    assert (found["image"], found["named"]) == ("/home/ada/new", {"a": "~/new"})


def test_the_paths_among_the_options_are_known(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    source = {"layout": "folder", "root": "~/data", "prompts": "~/words.yaml"}
    given = {
        "results": "~/out",
        "backbones": {"own": {"model": "~/m.json", "pretrained": "~/w.pt"}},
        "datasets": {"own": source},
        "predict": {"new": {"run": "~/run", "images": "~/new"}},
    }
    schema = read_schema("config")
    shared = read_schema("methods/promptad")["$defs"]
    found = check_options(given, schema | {"$defs": shared | schema["$defs"]}, "config")
    assert str(found).count("/home/ada/") == 6
    assert found["predict"]["new"]["run"] == "~/run"
