import contextlib
import json
import zipfile

import numpy as np
import pytest

from fsad.artifacts import files
from fsad.errors import UserError

ARRAYS = {
    "maps": np.arange(12, dtype=np.float32).reshape(3, 4),
    "labels": np.array([0, 1, 1], np.uint8),
    "names": np.array(["good/a.png", "dent/ä.png"]),
    "start": np.array(7),
}
SETTINGS = {"seed": 1, "class": "nut"}


@pytest.fixture
def artefact(tmp_path):
    files.write_npz(tmp_path / "a.npz", ARRAYS, SETTINGS)
    return tmp_path / "a.npz"


def assert_same(read, expected):
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)


def test_arrays_come_back(artefact):
    assert_same(files.read_npz(artefact), ARRAYS)


def test_named_arrays_come_back_alone(artefact):
    expected = {name: ARRAYS[name] for name in ("labels", "start")}
    assert_same(files.read_npz(artefact, "labels", "start"), expected)


def test_settings_are_stored_beside_the_arrays(artefact):
    stored = files.read_npz(artefact, files.SETTINGS)[files.SETTINGS]
    assert json.loads(str(stored)) == SETTINGS


def test_settings_come_back(artefact):
    assert files.read_settings(artefact) == SETTINGS


def test_nothing_is_pickled(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        files.write_npz(tmp_path / "a.npz", {"x": np.array([{}])}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_pickled_array_is_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}]))
    with pytest.raises(UserError, match=r"a\.npz: damaged"):
        files.read_npz(tmp_path / "a.npz")


def test_arrays_are_not_compressed(artefact):
    with zipfile.ZipFile(artefact) as file:
        assert {entry.compress_type for entry in file.infolist()} == {0}


def test_the_same_arrays_give_the_same_bytes(tmp_path, artefact):
    reordered = dict(reversed(SETTINGS.items()))
    files.write_npz(tmp_path / "b.npz", ARRAYS, reordered)
    assert (tmp_path / "b.npz").read_bytes() == artefact.read_bytes()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(artefact, share):
    whole = artefact.read_bytes()
    artefact.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=str(artefact)):
        files.read_npz(artefact)


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x40
    path.write_bytes(content)


def flipped_everywhere(path):
    """Yields while the file has a bit flipped, at each position in turn."""
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole)
        flip(path, position)
        yield


def test_a_flipped_bit_among_the_numbers_is_told(artefact):
    flip(artefact, artefact.read_bytes().index(ARRAYS["maps"].tobytes()) + 5)
    with pytest.raises(UserError, match=str(artefact)):
        files.read_npz(artefact)


def test_a_flipped_bit_anywhere_is_told_or_harmless(tmp_path):
    path, arrays = tmp_path / "a.npz", {"x": ARRAYS["labels"]}
    files.write_npz(path, arrays, {})
    for _ in flipped_everywhere(path):
        with contextlib.suppress(UserError):
            assert_same(files.read_npz(path, "x"), arrays)


def test_a_single_array_is_no_artefact(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(UserError, match=r"a\.npz: damaged"):
        files.read_npz(tmp_path / "a.npz")


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "a.npz").write_text("no archive")
    with pytest.raises(UserError, match=r"a\.npz: damaged"):
        files.read_npz(tmp_path / "a.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.npz: no such file"):
        files.read_npz(tmp_path / "a.npz")


def test_a_missing_array_is_told(artefact):
    with pytest.raises(UserError, match=f"{artefact}.*absent"):
        files.read_npz(artefact, "absent")


def test_a_failing_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), files.atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failing_writer_leaves_the_old_content(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), files.atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_nothing_has_the_final_name_before_the_end(tmp_path):
    with files.atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_who_reads_keeps_the_old_content(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    with open(tmp_path / "a.txt") as reader:
        files.write_text(tmp_path / "a.txt", "new")
        assert reader.read() == "old"


def test_what_a_killed_writer_left_is_removed(tmp_path):
    for name in (".a[1].txt.77.tmp", ".a1.txt.77.tmp", ".b.txt.77.tmp"):
        (tmp_path / name).write_text("half")
    files.write_text(tmp_path / "a[1].txt", "x")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a[1].txt", ".a1.txt.77.tmp", ".b.txt.77.tmp"}


def test_a_writer_that_was_overtaken_changes_nothing(tmp_path):
    with (
        pytest.raises(FileNotFoundError),
        files.atomic(tmp_path / "a.txt") as temporary,
    ):
        temporary.write_text("late")
        temporary.rename(tmp_path / ".a.txt.0.tmp")  # as if of another process
        files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_missing_folders_are_made(tmp_path):
    files.write_text(tmp_path / "a/b/c.txt", "x")
    assert (tmp_path / "a/b/c.txt").read_text() == "x"


def test_json_is_sorted_and_ends_its_line(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    text = (tmp_path / "a.json").read_text()
    assert text == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'


def test_an_artefact_of_its_origin_is_read(artefact):
    with pytest.raises(UserError, match="is of code None, not 1"):
        files.read_npz(artefact, origin={"code": "1"})
    files.write_npz(artefact, ARRAYS, SETTINGS | {"code": "1"})
    known = {"code": "1", "class": "nut", "elsewhere": "known"}
    assert_same(files.read_npz(artefact, origin=known), ARRAYS)


def test_an_artefact_of_another_class_is_told(artefact):
    files.write_npz(artefact, ARRAYS, SETTINGS | {"code": "1"})
    with pytest.raises(UserError, match=f"{artefact}: is of class nut, not bolt"):
        files.read_npz(artefact, "maps", origin={"code": "1", "class": "bolt"})


def test_a_record_comes_back(tmp_path):
    record = {"b": [1.5, None], "ä": {"c": "d"}}
    files.write_record(tmp_path / "a.json", record)
    assert files.read_record(tmp_path / "a.json") == record


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"1", b"\xff", b"null"])
def test_what_is_no_record_is_told(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: damaged"):
        files.read_record(tmp_path / "a.json")


def test_a_flipped_bit_in_a_record_is_told_or_harmless(tmp_path):
    path, record = tmp_path / "a.json", {"auroc": 91.25, "class": "nut"}
    files.write_record(path, record)
    for _ in flipped_everywhere(path):
        with contextlib.suppress(UserError):
            assert files.read_record(path) == record
