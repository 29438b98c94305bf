import contextlib
import os
import stat
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
SETTINGS = {"seed": 1, "class": "nut", "code": "1"}


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
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x40]))


def flipped_everywhere(path):
    """Yields while the file has a bit flipped, at each position in turn."""
    for position in range(path.stat().st_size):
        flip(path, position)
        yield
        flip(path, position)


def test_a_flipped_bit_among_the_numbers_is_noticed(artefact):
    flip(artefact, artefact.read_bytes().index(ARRAYS["maps"].tobytes()) + 5)
    with pytest.raises(UserError, match=str(artefact)):
        files.read_npz(artefact)


def test_a_flipped_bit_anywhere_is_noticed_or_harmless(tmp_path):
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


def test_a_missing_array_is_named(artefact):
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


def test_a_reader_keeps_the_old_content(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    with open(tmp_path / "a.txt") as reader:
        files.write_text(tmp_path / "a.txt", "new")
        assert reader.read() == "old"


def test_files_of_a_killed_writer_are_removed(tmp_path):
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


RECORD = {"code": "1", "class": "nut"}  # part of the settings


def test_an_artefact_of_its_record_is_read(artefact):
    assert_same(files.read_npz(artefact, record=RECORD), ARRAYS)
    assert files.has_record(artefact, RECORD)
    assert files.is_whole(artefact, RECORD)


def test_an_artefact_of_another_record_is_refused(artefact):
    other = RECORD | {"class": "bolt"}
    with pytest.raises(UserError, match=f"{artefact}: is of class nut, not bolt"):
        files.read_npz(artefact, "maps", record=other)
    assert not files.has_record(artefact, other)
    assert not files.is_whole(artefact, other)


def test_a_missing_artefact_has_no_record(tmp_path):
    assert not files.has_record(tmp_path / "a.npz", {})
    assert not files.is_whole(tmp_path / "a.npz", {})


def test_an_artefact_with_a_damaged_byte_is_not_whole(artefact):
    flip(artefact, artefact.read_bytes().index(ARRAYS["maps"].tobytes()) + 5)
    assert files.has_record(artefact, RECORD)  # the arrays are not read
    assert not files.is_whole(artefact, RECORD)


def test_slices_of_an_opened_artefact_are_those_of_the_arrays(artefact):
    opened = files.open_npz(artefact, RECORD)
    assert opened.keys() == ARRAYS.keys()
    for name in ("maps", "labels", "names"):
        assert len(opened[name]) == len(ARRAYS[name])
        for rows in (slice(None), slice(1), slice(1, 3), slice(2, 9), slice(2, 2)):
            found, expected = opened[name][rows], ARRAYS[name][rows]
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert np.array_equal(found, expected)


def test_slices_do_not_depend_on_the_order_in_memory(tmp_path):
    array = np.asfortranarray(np.arange(24).reshape(4, 3, 2))
    files.write_npz(tmp_path / "a.npz", {"x": array}, RECORD)
    assert np.array_equal(
        files.open_npz(tmp_path / "a.npz", RECORD)["x"][1:3], array[1:3]
    )


def test_arrays_without_rows_are_opened(tmp_path):
    files.write_npz(tmp_path / "a.npz", {"x": np.zeros((0, 4, 5), "f2")}, RECORD)
    found = files.open_npz(tmp_path / "a.npz", RECORD)["x"][:]
    assert (found.shape, found.dtype) == ((0, 4, 5), np.float16)


def test_an_artefact_of_another_record_is_not_opened(artefact):
    with pytest.raises(UserError, match=f"{artefact}: is of class nut, not bolt"):
        files.open_npz(artefact, RECORD | {"class": "bolt"})


def test_an_artefact_with_a_damaged_byte_is_not_opened(artefact):
    """A byte of any of its arrays, whichever is read later."""
    for name in ("maps", "labels", "names"):
        place = artefact.read_bytes().index(ARRAYS[name].tobytes()) + 1
        flip(artefact, place)
        with pytest.raises(UserError, match=f"{artefact}: damaged"):
            files.open_npz(artefact, RECORD)
        flip(artefact, place)
    files.open_npz(artefact, RECORD)


def test_a_flipped_bit_of_an_opened_artefact_is_noticed_or_harmless(tmp_path):
    path, arrays = tmp_path / "a.npz", {"x": ARRAYS["labels"]}
    files.write_npz(path, arrays, {})
    for _ in flipped_everywhere(path):
        with contextlib.suppress(UserError):
            opened = files.open_npz(path, {})
            if "x" in opened:  # else its name is damaged, which a reader would miss
                assert_same({"x": opened["x"][:]}, arrays)


def test_a_record_comes_back(tmp_path):
    record = {"b": [1.5, None], "ä": {"c": "d"}}
    files.write_record(tmp_path / "a.json", record)
    assert files.read_record(tmp_path / "a.json") == record


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"1", b"\xff", b"null"])
def test_a_file_that_is_no_record_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: damaged"):
        files.read_record(tmp_path / "a.json")


def test_a_flipped_bit_in_a_record_is_noticed_or_harmless(tmp_path):
    path, record = tmp_path / "a.json", {"auroc": 91.25, "class": "nut"}
    files.write_record(path, record)
    for _ in flipped_everywhere(path):
        with contextlib.suppress(UserError):
            assert files.read_record(path) == record


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_follow_the_umask_whatever_the_writer_sets(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with files.atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")
            temporary.chmod(0o640)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_only_files_of_a_results_folder_are_to_be_deleted(tmp_path):
    for name, deleted in (("results/features/b/vision.safetensors", 1), ("b.pt", 0)):
        files.write_text(tmp_path / name, "x")
        message = str(files.damaged(tmp_path / name, ValueError("why")))
        assert message.startswith(f"{tmp_path / name}: damaged")
        assert "(why)" in message and message.count("delete it") == deleted


def test_a_file_of_another_kind_is_named_with_the_expected_one(tmp_path):
    files.write_text(tmp_path / "digests.json", "x")
    error = files.damaged(tmp_path / "digests.json", ValueError("why"), "a detector")
    assert "digests.json: is not a detector (why); name another" in str(error)


def test_a_file_without_permission_is_not_called_damaged(tmp_path, unreadable):
    path = unreadable(tmp_path / "a.npz")
    for read in (files.read_npz, files.read_settings, files.read_record):
        with pytest.raises(UserError, match=r"a.npz: cannot be read \(Permission"):
            read(path)
    assert not files.has_record(path, {})
