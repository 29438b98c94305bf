"""Supply chain."""

import ast
import re
from functools import cache
from inspect import signature
from pathlib import Path

import pytest

from helpers import REPOSITORY

SOURCES = sorted(
    path
    for folder in ("workflow", "tests")
    for path in (REPOSITORY / folder).rglob("*.py")
)
RUNS_DATA = {"eval", "exec", "compile", "unsafe_load", "full_load"}


@cache
def nodes():
    """(file, node) of every import and call in the repository."""
    kinds = ast.Import | ast.ImportFrom | ast.Call
    return [
        (path, node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds)
    ]


def calls():
    """(file, object, function, call) of every call in the repository."""
    for path, node in nodes():
        if isinstance(node, ast.Call):
            yield path, *_names(node.func), node


def _names(function):
    if isinstance(function, ast.Attribute):
        return ast.unparse(function.value), function.attr
    return "", getattr(function, "id", "")


def keywords(call):
    return {word.arg: ast.unparse(word.value) for word in call.keywords}


def test_every_package_has_digests(record_property):
    """Packages pinned with the digests of their files, in the one lock file."""
    text = (REPOSITORY / "envs/requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    record_property("packages", len(entries))
    assert all(re.match(r"[\w.-]+==[\w.+]+ ", entry) for entry in entries)
    assert all("--hash=sha256:" in entry for entry in entries)


def test_pickles_are_loaded_as_weights_alone(record_property):
    """Calls of torch.load and of open_clip's loader, all with weights_only=True."""
    found = [
        (path, keywords(call))
        for path, owner, name, call in calls()
        if (owner, name) == ("torch", "load")
        or (
            (owner, name) == ("open_clip", "create_model")
            and "pretrained" in keywords(call)
        )
    ]
    record_property("calls", len(found))
    assert found
    assert not [path for path, words in found if words.get("weights_only") != "True"]


def test_timm_loads_weights_alone():
    """Loaders of timm, whose `create_model` takes no such option, by their source."""
    from timm.models import _builder, _helpers, _hub
    from torch.hub import load_state_dict_from_url

    for load in (_hub.load_state_dict_from_hf, _helpers.load_state_dict):
        assert signature(load).parameters["weights_only"].default is True
    # So timm's call without, for torch of former versions, is never made.
    assert "weights_only" in signature(load_state_dict_from_url).parameters
    found = [
        keywords(node).get("weights_only", "True")
        for node in ast.walk(ast.parse(Path(_builder.__file__).read_text()))
        if isinstance(node, ast.Call) and "load_state_dict" in _names(node.func)[1]
    ]
    assert {*found} == {"True"}


@pytest.mark.parametrize("package", ["pickle", "marshal", "shelve", "dill", "joblib"])
def test_nothing_that_runs_data_is_imported(package):
    """Packages that run code from data, imported nowhere."""
    imported = {
        name
        for _, node in nodes()
        if not isinstance(node, ast.Call)
        for name in [getattr(node, "module", None), *(a.name for a in node.names)]
    }
    assert package not in imported


def test_no_call_runs_data():
    """No eval, exec or unsafe YAML, no NumPy file with pickles, no TorchScript."""
    wrong = [
        (path.name, ast.unparse(call))
        for path, owner, name, call in calls()
        if (not owner and name in RUNS_DATA)
        or (owner, name) in {("yaml", "load"), ("jit", "load"), ("torch.jit", "load")}
        or keywords(call).get("allow_pickle", "False") != "False"
    ]
    assert wrong == []
