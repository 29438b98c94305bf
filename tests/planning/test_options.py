"""Checking, completing and resolving the configuration."""

import re
import unicodedata
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from fsad.artifacts.paths import Run
from fsad.artifacts.schema import read_schema, read_yaml
from fsad.data.words import prompts_file
from fsad.errors import UserError
from fsad.methods.registry import METHODS
from fsad.planning import options as cfg
from helpers import REPOSITORY, write_class

LAYERS = {
    "epochs": 50,
    "experiments": {
        "plain": {"variant": "original"},
        "slow": {"variant": "qq_residual", "epochs": 70, "training": {"lr": 0.1}},
    },
    "overrides": {"own": {"bolt": {"training": {"lr": 0.5, "n_pro": {"seg": 9}}}}},
}
FORMS = "NFC", "NFD"
BOLT = Run("original", "own", "bolt", "cls", 1, 111)


@pytest.fixture
def minimal(tmp_path):
    """A configuration that leaves everything to the defaults."""
    write_class(tmp_path, "bolt")
    write_class(tmp_path, "metal_nut")
    return {"datasets": {"own": {"layout": "folder", "root": str(tmp_path)}}}


def test_defaults_are_those_of_the_method(minimal):
    complete = cfg.complete(minimal)
    assert cfg.run_options(complete, BOLT) == {
        "epochs": 100,
        "eval_every": 5,
        "lr": 0.002,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "min_lr": 0.00001,
        "match_weight": 0.001,
        "temperature": "stored",
        "n_ctx": 4,
        "n_ctx_ab": 1,
        "n_pro": 3,
        "n_pro_ab": 4,
        "resolution": 256,
        "device": "cpu",
        "precision": "float32",
        "position": "any",
        "whole": False,
    }
    assert cfg.run_options(complete, BOLT._replace(task="seg"))["n_pro"] == 1
    assert complete["backbones"]["clip"] == {
        "library": "open_clip",
        "model": "ViT-B-16-plus-240",
        "pretrained": "laion400m_e32",
        "random_seed": 0,
    }
    experiment = complete["experiments"]["original"]
    assert (experiment["backbone"], experiment["fit"]) == ("clip", "square")
    assert (complete["resolution"], complete["threads"], complete["vis"]) == (
        256,
        2,
        False,
    )


@pytest.mark.parametrize(
    ("experiment", "class_name", "expected"),
    [
        ("plain", "metal_nut", (50, 0.002, 1)),
        ("slow", "metal_nut", (70, 0.1, 1)),
        ("slow", "bolt", (70, 0.5, 9)),
    ],
)
def test_experiment_then_class_win(minimal, experiment, class_name, expected):
    complete = cfg.complete(minimal | LAYERS)
    run = Run(experiment, "own", class_name, "seg", 1, 111)
    options = cfg.run_options(complete, run)
    assert (options["epochs"], options["lr"], options["n_pro"]) == expected


@pytest.mark.parametrize(("given", "read"), [("5e-4", 0.0005), ("3", 3), ("0.1", 0.1)])
def test_numbers_written_as_strings_are_numbers(minimal, given, read):
    complete = cfg.complete(minimal | {"training": {"weight_decay": given}})
    assert complete["training"]["weight_decay"] == read


def test_lists_and_switches_from_the_command_line(minimal):
    complete = cfg.complete(minimal | {"shots": ["1", "2"], "vis": "True"})
    assert (complete["shots"], complete["vis"]) == ([1, 2], True)


@pytest.mark.parametrize(("given", "read"), [("raw", "raw"), ("400", 400), (64, 64)])
def test_the_resolution_is_a_number_or_raw(minimal, given, read):
    complete = cfg.complete(minimal | {"resolution": given})
    assert cfg.run_options(complete, BOLT)["resolution"] == read


@pytest.mark.parametrize(("given", "read"), [("false", False), ("True", True)])
def test_switches_with_a_third_value_from_the_command_line(minimal, given, read):
    assert cfg.complete(minimal | {"keep_features": given})["keep_features"] is read
    assert cfg.complete(minimal | {"keep_features": "auto"})["keep_features"] == "auto"


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("results/a/", "results/a"),
        ("./results//a", "results/a"),
        (f"{Path.cwd()}/results/a", "results/a"),
        ("../a/", "../a"),
        ("/elsewhere/", "/elsewhere"),
    ],
)
def test_a_folder_of_results_has_one_name(minimal, given, plain):
    assert cfg.complete(minimal | {"results": given})["results"] == plain


def test_switches_of_a_variant_from_the_command_line(minimal):
    variant = {"path": "dual", "attention": "vv", "ffn": "true", "residual": "false"}
    given = minimal | {"experiments": {"mine": {"variant": variant}}}
    read = cfg.complete(given)["experiments"]["mine"]["variant"]
    assert (read["ffn"], read["residual"]) == (True, False)


def test_the_given_configuration_is_left_alone(minimal):
    given = minimal | {"shots": ["1"]}
    cfg.complete(given)
    assert given["shots"] == ["1"] and "epochs" not in given


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"trainings": {}},
            "config: trainings: unknown option; did you mean 'training'",
        ),
        ({"shots": []}, r"config: shots: must be a list of 1 or more, not \[\]"),
        ({"shots": [1, 1]}, "config: shots: must not hold 1 twice"),
        (
            {"experiments": {"a/b": {"variant": "original"}}},
            "config: experiments: a name: must be .* not 'a/b'",
        ),
        ({"experiments": {"a": {}}}, "config: experiments.a.variant: must be given"),
        ({"threads": True}, "config: threads: must be a whole number, not true"),
        ({"tasks": ["det"]}, "config: tasks.0: must be 'cls' or 'seg', not 'det'"),
        ({"overrides": {"other": {}}}, "config: overrides.other: no such data set"),
        (
            {"resolution": "rough"},
            "config: resolution: must be a whole number or 'raw'",
        ),
        ({"resolution": 8}, "config: resolution: must be at least 16, not 8"),
        ({"results": "out/<new>"}, "config: results: must be a path without .* angle"),
    ],
)
def test_a_wrong_option_is_named(minimal, change, message):
    with pytest.raises(UserError, match=message):
        cfg.complete(minimal | change)


@pytest.mark.parametrize("form", FORMS)
def test_names_of_classes_may_be_of_another_unicode_form(tmp_path, form):
    composed = unicodedata.normalize("NFC", "Gehäuse")
    write_class(tmp_path, unicodedata.normalize("NFD", composed), defects=())
    typed = unicodedata.normalize(form, composed)
    source = {"layout": "folder", "root": str(tmp_path), "classes": [typed]}
    overrides = {"own": {typed: {"epochs": 7}}}
    predict = {"new": {"run": f"original/own/{typed}/k1/s1/cls", "images": "new"}}
    given = {"datasets": {"own": source}, "overrides": overrides, "predict": predict}
    complete = cfg.complete(given)
    assert cfg.class_names(complete["datasets"]["own"]) == [composed]
    run = BOLT._replace(class_name=composed)
    assert cfg.run_options(complete, run)["epochs"] == 7
    assert composed in complete["predict"]["new"]["run"]


def test_a_name_in_two_unicode_forms_stands_twice(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text("".join(f"{unicodedata.normalize(f, 'ä')}: {{}}\n" for f in FORMS))
    with pytest.raises(
        UserError, match="'ä' stands twice in one place, in lines 1 and"
    ):
        read_yaml(path)


def test_malformed_yaml_is_named(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1")
    with pytest.raises(UserError, match=r"bad\.yaml: no valid YAML"):
        read_yaml(path)


def test_a_number_as_a_name_is_told(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text("overrides: {own: {01: {epochs: 3}}}")
    with pytest.raises(UserError, match=r"prompts\.yaml: 1 is no word to YAML"):
        read_yaml(path)


@pytest.mark.parametrize("entry", [None, "screw"])
def test_words_that_are_no_mapping_are_told(minimal, tmp_path, entry):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(yaml.safe_dump({"bolt": entry}))
    minimal["datasets"]["own"]["prompts"] = str(prompts)
    with pytest.raises(UserError, match=f"{prompts}: bolt: must hold `text` or"):
        cfg.class_prompts(cfg.complete(minimal), "own", "bolt")


def test_words_come_from_the_name_the_file_and_the_override(minimal, tmp_path):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(
        yaml.safe_dump({"bolt": {"text": "screw", "states": ["bent {}"]}})
    )
    minimal["datasets"]["own"]["prompts"] = str(prompts)
    minimal["states"] = ["bad {}"]
    complete = cfg.complete(minimal)
    named = {"text": "screw", "states": ["bad {}", "bent {}"]}
    assert cfg.class_prompts(complete, "own", "bolt") == named
    plain = {"text": "metal nut", "states": ["bad {}"]}
    assert cfg.class_prompts(complete, "own", "metal_nut") == plain
    (note,) = cfg.prompts_notes(complete, "own", ["bolt", "metal_nut"])
    assert note.startswith(f"prompts: {prompts} does not name metal_nut: the words")
    assert cfg.prompts_notes(complete, "own", ["bolt"]) == []
    complete["overrides"] = {"own": {"bolt": {"text": "pin"}}}
    assert cfg.class_prompts(complete, "own", "bolt") == named | {"text": "pin"}


@pytest.mark.parametrize("name", ["mvtec", "visa"])
def test_shipped_prompts_cover_the_shipped_classes(name):
    config = read_yaml(REPOSITORY / "config/config.yaml")
    words = read_yaml(prompts_file(config["datasets"][name]["prompts"]))
    assert sorted(words) == sorted(config["datasets"][name]["classes"])
    for entry in words.values():
        assert all(state.count("{}") == 1 for state in entry["states"])


def described(schema):
    """Name and description of each option that has one, nested ones too."""
    for name, option in schema.get("properties", {}).items():
        if "description" in option:
            yield name, option["description"].strip()
        yield from described(option)
        yield from described(option.get("additionalProperties") or {})


@pytest.mark.parametrize(
    "schema", ["config", "view", *(m.schema for m in METHODS.values())]
)
def test_options_are_documented_as_the_schema_describes_them(schema):
    """config/README.md has a row with each name and description of the schema."""
    content = cfg.config_schema() if schema == "config" else read_schema(schema)
    Draft202012Validator.check_schema(content)
    text = (REPOSITORY / "config/README.md").read_text()
    for name, description in described(content):
        pattern = rf"^\| `{name}` \| (?:[^|]*\| )?{re.escape(description)} \|$"
        assert re.search(pattern, text, re.M), (name, description)
