"""The registry with a second method, made on the spot in a copy of the package."""

import shutil
import sys

import numpy as np
import pytest

from fsad import methods
from fsad.artifacts import code, schema, stages
from fsad.artifacts.paths import Run
from fsad.data.views import View
from fsad.methods import registry

MODULE = '''
from typing import NamedTuple

import torch

from fsad.methods.base import Prediction, Step
from fsad.methods.patches import nearest_cosine, peak_scores

SIGMA = 2.0


class Nearest(NamedTuple):
    """Distance of patches to the support images; nothing is learned."""

    support: dict
    resolution: int
    learned: dict = {}
    sigma: float = SIGMA

    def fit(self, support, key):
        bank = {"patch": torch.as_tensor(support["patch"]).flatten(0, 2)}
        yield Step(1, {}, self._replace(support=bank))

    def observe(self, features):
        patches = torch.as_tensor(features["patch"])
        distances = nearest_cosine(patches.flatten(1, 2), self.support["patch"])
        maps = distances.unflatten(1, patches.shape[1:3])
        return {"maps": maps, "scores": peak_scores(maps, self.resolution)}

    def predict(self, observed):
        return Prediction(observed["scores"], observed["maps"], {})


def create(task, options, text):
    return Nearest({}, options["resolution"])
'''
SCHEMA = "type: object\nadditionalProperties: false\nproperties: {}\n"
ENTRY = registry.Entry(
    module="fsad.methods.nearest",
    schema="methods/nearest",
    readout=lambda options, size: None,
    flat=lambda options, run, backbone: {},
    reads_text=False,
    trains=False,
)


def forget():
    """Clear what planning remembers of code and schemas."""
    for function in (registry.method_code, stages.stage_code, schema.read_schema):
        function.cache_clear()


def digest(name):
    forget()
    return registry.method_code(name)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, which digests are of."""
    copy = tmp_path / "fsad"
    for path in (*code.PACKAGE.rglob("*.py"), *schema.SCHEMAS.rglob("*.yaml")):
        target = copy / path.relative_to(code.PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    monkeypatch.setattr(code, "PACKAGE", copy)
    monkeypatch.setattr(schema, "SCHEMAS", copy / "schemas")
    yield copy
    forget()


@pytest.fixture
def second(package, monkeypatch):
    """The second method: its module, its schema and its entry."""
    monkeypatch.setitem(registry.METHODS, "nearest", ENTRY)
    (package / "methods/nearest.py").write_text(MODULE)
    (package / "schemas/methods/nearest.schema.yaml").write_text(SCHEMA)
    append(package / "methods/registry.py", "METHODS['nearest'] = Entry()")
    folders = [*methods.__path__, str(package / "methods")]
    monkeypatch.setattr(methods, "__path__", folders)
    yield package
    sys.modules.pop(ENTRY.module, None)


def append(path, text):
    path.write_text(f"{path.read_text()}\n{text}\n")


def test_every_method_has_its_module():
    for name in registry.METHODS:
        module = registry.load(name)
        assert callable(module.create)
        assert callable(module.restore)


def readout(method, **options):
    known = registry.method_schema(method)
    given = schema.with_defaults(known, options)
    return registry.METHODS[method].readout(given, 32)


READOUTS = {
    "promptad": ({"variant": "qq_dual"}, "promptad", "none"),
    "patchcore": ({}, "neighbourhoods", "none"),
    "anomalydino": ({"rotations": 4}, "tokens", "rotations"),
    "subspacead": ({"rotations": 5}, "tokens", "random_rotations"),
    "winclip": ({}, "windows", "none"),
}


@pytest.mark.parametrize("name", registry.METHODS)
def test_a_method_reads_its_kind_of_features(name):
    options, kind, copies = READOUTS[name]
    found, edge = readout(name, **options), readout(name, fit="edge", **options)
    assert (found.kind, found.augment.kind) == (kind, copies)
    assert (found.view, edge.view) == (View("square", 32), View("edge", 32))
    assert found.name != edge.name
    assert found.augment.count == options.get("rotations", 0)


def test_readouts_differ_by_every_option_that_they_depend_on():
    found = [
        readout("patchcore"),
        readout("patchcore", layers=["layer3"]),
        readout("patchcore", patch_width=64),
        readout("anomalydino"),
        readout("anomalydino", rotations=1),
        readout("subspacead"),
        readout("subspacead", blocks=[3]),
        readout("winclip"),
        readout("winclip", patch_norm=False),
        readout("winclip", scales=[2]),
    ]
    assert len({one.name for one in found}) == len(found)
    assert readout("patchcore", coreset=0.1, neighbours=9) == readout("patchcore")
    assert readout("winclip", scales=[3, 2], state_words="own") == readout("winclip")


@pytest.mark.parametrize(
    ("dataset", "name", "model", "mask"),
    [
        ("mvtec", "screw", "vit_small_patch14_dinov2.lvd142m", "published"),
        ("mvtec", "bottle", "vit_small_patch14_dinov2.lvd142m", "none"),
        ("visa", "candle", "vit_small_patch14_dinov2.lvd142m", "published"),
        ("own", "screw", "vit_small_patch14_dinov2.lvd142m", "none"),
        ("visa", "candle", "ViT-B-16", "none"),
    ],
)
def test_the_background_is_masked_as_published(dataset, name, model, mask):
    run, backbone = Run("a", dataset, name, "cls", 1, 1), {"model": model}
    flat = registry.METHODS["anomalydino"].flat
    assert flat({"mask": "auto"}, run, backbone)["mask"] == mask
    assert flat({"mask": "2d"}, run, backbone)["mask"] == "2d"


def test_methods_without_training_give_what_one_prediction_of_both_tasks_needs():
    for name, entry in registry.METHODS.items():
        assert hasattr(registry.load(name), "observe_all") is not entry.trains


def test_a_second_method_can_be_loaded_and_fitted(second):
    method = registry.load("nearest").create("cls", {"resolution": 8}, None)
    features = {"patch": np.eye(4, 6, dtype=np.float32).reshape(1, 2, 2, 6)}
    (step,) = method.fit(features, key=(1, 2))
    found = step.detector.predict(step.detector.observe(features))
    assert found.scores.tolist() == [0]
    assert found.maps.shape == (1, 2, 2)


def test_a_second_method_leaves_the_code_of_the_first(package, request):
    before = digest("promptad")
    request.getfixturevalue("second")
    assert digest("promptad") == before
    assert digest("nearest") != before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("methods/nearest.py", "ADDED = 1"),
        ("schemas/methods/nearest.schema.yaml", "title: Nearest"),
    ],
)
def test_an_edit_of_the_second_method_changes_its_code_alone(second, file, text):
    first, other = digest("promptad"), digest("nearest")
    append(second / file, text)
    assert digest("promptad") == first
    assert digest("nearest") != other


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("methods/promptad/method.py", "ADDED = 1"),
        ("methods/promptad/losses.py", "ADDED = 1"),
        ("schemas/methods/promptad.schema.yaml", "title: PromptAD"),
    ],
)
def test_an_edit_of_the_first_method_changes_its_code_alone(second, file, text):
    first, other = digest("promptad"), digest("nearest")
    append(second / file, text)
    assert digest("promptad") != first
    assert digest("nearest") == other


@pytest.mark.parametrize("file", ["evaluation/runs.py", "methods/patches.py"])
def test_an_edit_of_shared_code_changes_both(second, file):
    first, other = digest("promptad"), digest("nearest")
    append(second / file, "ADDED = 1")
    assert digest("promptad") != first
    assert digest("nearest") != other


def test_comments_change_nothing(second):
    before = digest("promptad")
    append(second / "methods/promptad/method.py", "# a comment")
    append(second / "schemas/methods/promptad.schema.yaml", "# a comment")
    assert digest("promptad") == before
