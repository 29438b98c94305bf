import json
import os
import time

import pytest

from fsad.artifacts import digests
from fsad.artifacts.digests import digest_of, file_digests
from fsad.errors import UserError


@pytest.fixture
def files(tmp_path):
    """Two files, an hour old."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "results/digests.json"


@pytest.fixture
def later(monkeypatch):
    """An hour later, so that no file is too young to be trusted."""
    now = time.time() + 3600
    monkeypatch.setattr(digests.time, "time", lambda: now)


def unread(path):
    raise AssertionError(f"{path} was read again")


def test_a_digest_tells_the_content_alone(files, memory):
    files[1].write_bytes(files[0].read_bytes())
    first, second = file_digests(files, memory).values()
    assert first == second
    files[1].write_bytes(b"other")
    assert file_digests(files, memory)[files[1]] != first


def test_unchanged_files_are_read_once(files, memory, later, monkeypatch):
    before = file_digests(files, memory)
    monkeypatch.setattr(digests, "file_digest", unread)
    assert file_digests(files, memory) == before


def test_what_is_remembered_of_other_files_stays(files, memory, later, monkeypatch):
    for path in files:
        file_digests([path], memory)
    monkeypatch.setattr(digests, "file_digest", unread)
    assert len(file_digests(files, memory)) == 2


def test_without_a_memory_that_can_be_written_it_is_done_without(files, later):
    memory = files[0] / "digests.json"  # a file is in its way
    assert file_digests(files, memory) == file_digests(files)


def rewritten(path, **times):
    """Replace the content by one of the same size; the size alone tells nothing."""
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, **times)


@pytest.mark.parametrize("age", [-1000, 1000], ids=["older", "newer"])
def test_an_edit_is_seen_whatever_its_time(files, memory, later, age):
    before = file_digests(files, memory)
    rewritten(files[0], ns=(0, files[0].stat().st_mtime_ns - age * 10**9))
    after = file_digests(files, memory)
    assert [before[path] == after[path] for path in files] == [False, True]


def test_an_edit_is_seen_though_its_time_was_set_back(files, memory, later):
    before = file_digests(files, memory)
    rewritten(files[0], ns=(0, files[0].stat().st_mtime_ns))
    assert file_digests(files, memory)[files[0]] != before[files[0]]


def test_files_written_just_now_are_not_trusted(files, memory):
    file_digests(files, memory)
    assert not memory.exists()


def test_without_a_memory_all_is_read(files):
    assert len(set(file_digests(files).values())) == 2


def test_an_unreadable_file_is_named(tmp_path, memory):
    with pytest.raises(UserError, match=r"none\.png: cannot be read \(No such file"):
        file_digests([tmp_path / "none.png"], memory)


def test_a_damaged_memory_is_named(files, memory):
    memory.parent.mkdir()
    memory.write_text("{")
    with pytest.raises(UserError, match=r"digests\.json: damaged .* delete it"):
        file_digests(files, memory)


def test_settings_have_a_digest_that_no_order_of_keys_changes():
    assert digest_of({"a": 1, "b": [2]}) == digest_of(json.loads('{"b": [2], "a": 1}'))
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "there").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    digests.check_files([tmp_path / "there"])
    with pytest.raises(UserError, match=r"broken: cannot be read \(No such file"):
        digests.check_files([tmp_path / "there", tmp_path / "broken"])
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        digests.check_files([tmp_path])
