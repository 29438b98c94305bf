import pytest

from fsad.artifacts import stages
from fsad.artifacts.stages import check_record, identity, is_same, record
from fsad.errors import UserError

KEYS = {"dataset": "own", "class": "nut", "view": 32, "images": "a1", "region": None}


def test_a_record_names_its_stage_keys_and_code():
    assert record("images", "c0de", **KEYS) == {
        **KEYS,
        "stage": "images",
        "code": "c0de",
    }


def test_the_code_is_that_of_the_modules_of_the_stage(monkeypatch):
    monkeypatch.setattr(stages, "stage_code", lambda stage: f"code of {stage}")
    assert record("images", **KEYS)["code"] == "code of images"


@pytest.mark.parametrize("stage", stages.STAGES)
def test_every_stage_has_code(stage):
    assert len(stages.stage_code(stage)) == 16


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        (KEYS | {"seed": 1}, "seed"),
        ({n: x for n, x in KEYS.items() if n != "view"}, "view"),
        ({n: x for n, x in KEYS.items() if n != "view"} | {"seed": 1}, "seed, view"),
    ],
    ids=["unknown", "missing", "both"],
)
def test_an_unknown_or_missing_key_is_refused(keys, wrong):
    with pytest.raises(ValueError, match=f"images: keys .*: {wrong}$"):
        record("images", **keys)


EXPECTED = record("images", "c0de", **KEYS)


@pytest.mark.parametrize(
    ("name", "value"), [("class", "bolt"), ("view", 48), ("code", "new")]
)
def test_the_difference_of_a_record_is_named(name, value):
    found = EXPECTED | {name: value}
    with pytest.raises(UserError, match=rf"^a\.npz: is of {name} {value}, not "):
        check_record("a.npz", found, EXPECTED)
    assert not is_same(found, EXPECTED)


def test_a_key_that_is_not_there_is_named():
    with pytest.raises(UserError, match="is of view null, not 32"):
        check_record("a.npz", {}, {"view": 32})


def test_a_long_value_is_shortened():
    images = [["good/000.png", "0" * 64]]
    with pytest.raises(
        UserError, match=r'is of images \[\["good/000.*\.\.\., not none'
    ):
        check_record("a.npz", {"images": images}, {"images": "none"})


def test_a_record_among_settings_and_from_json_is_the_same():
    expected = {"support": (("a", "1"),), "options": {"x": 1, "y": 2}}
    found = {"provenance": {}, "support": [["a", "1"]], "options": {"y": 2, "x": 1}}
    check_record("a.npz", found, expected)
    assert is_same(found, expected)
    assert not is_same(expected, found)  # without provenance


def test_the_identity_ignores_the_order_of_keys_and_other_settings():
    again = dict(reversed(EXPECTED.items())) | {"provenance": {"python": "3"}}
    assert identity(again) == identity(EXPECTED)


@pytest.mark.parametrize("name", ["class", "images", "code"])
def test_the_identity_depends_on_every_key_but_those_left_out(name):
    other = EXPECTED | {name: "other"}
    assert identity(other) != identity(EXPECTED)
    assert identity(other, without=(name,)) == identity(EXPECTED, without=(name,))
