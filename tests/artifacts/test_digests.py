import os
import time

import pytest

from fsad.artifacts import digests
from fsad.artifacts.digests import (
    check_files,
    file_digests,
    read_memory,
    write_memory,
)
from fsad.errors import UserError


@pytest.fixture
def files(tmp_path):
    """Two files of different content."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


@pytest.fixture
def stored(tmp_path):
    return tmp_path / "results/digests.json"


@pytest.fixture
def later(monkeypatch):
    """An hour later, so that no file is too recent to be trusted."""
    now = time.time() + 3600
    monkeypatch.setattr(digests.time, "time", lambda: now)


@pytest.fixture
def unread(monkeypatch):
    """Call it, and a file that is read again fails the test."""

    def refuse(path):
        raise AssertionError(f"{path} was read again")

    return lambda: monkeypatch.setattr(digests, "file_digest", refuse)


def test_a_digest_depends_on_the_content_alone(files):
    files[1].write_bytes(files[0].read_bytes())
    first, second = file_digests(files).values()
    assert first == second
    files[1].write_bytes(b"other")
    assert file_digests(files)[files[1]] != first


def test_unchanged_files_are_read_once(files, unread):
    memory = {}
    before = file_digests(files, memory)
    unread()
    assert file_digests(files, memory) == before


def test_unchanged_files_are_not_read_in_the_next_call_either(
    files, stored, later, unread
):
    memory = {}
    before = file_digests(files, memory)
    write_memory(stored, memory)
    unread()
    assert file_digests(files, read_memory(stored)) == before


def test_the_digests_of_other_files_are_kept(files, unread):
    memory = {}
    for path in files:
        file_digests([path], memory)
    unread()
    assert len(file_digests(files, memory)) == 2


def test_nothing_is_written_unless_it_is_asked_for(files, tmp_path, later):
    file_digests(files, read_memory(tmp_path / "digests.json"))
    assert sorted(tmp_path.iterdir()) == files


def test_a_memory_that_did_not_change_is_not_written_again(files, stored, later):
    memory = {}
    file_digests(files, memory)
    write_memory(stored, memory)
    os.utime(stored, (0, 0))
    write_memory(stored, memory)
    assert stored.stat().st_mtime == 0


def test_a_memory_that_cannot_be_written_is_done_without(files, later):
    memory = {}
    file_digests(files, memory)
    write_memory(files[0] / "digests.json", memory)  # a file is in the way
    assert read_memory(files[0] / "digests.json") == {}


def rewritten(path, **times):
    """Replace the content by another of the same size, which reveals nothing."""
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, **times)


@pytest.mark.parametrize("age", [-1000, 0, 1000], ids=["older", "set back", "newer"])
def test_an_edit_is_seen_whatever_its_time(files, age):
    memory = {}
    before = file_digests(files, memory)
    time.sleep(0.02)  # more than the resolution of change times
    rewritten(files[0], ns=(0, files[0].stat().st_mtime_ns - age * 10**9))
    after = file_digests(files, memory)
    assert [before[path] == after[path] for path in files] == [False, True]


def test_files_written_just_now_are_not_trusted(files, stored):
    memory = {}
    file_digests(files, memory)
    write_memory(stored, memory)
    assert not stored.exists()


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.png: no such file"):
        file_digests([tmp_path / "none.png"])


@pytest.mark.parametrize("text", ["{", "[]", '{"a.png": 1}'])
def test_a_damaged_memory_is_named(tmp_path, text):
    (tmp_path / "digests.json").write_text(text)
    with pytest.raises(UserError, match=r"digests\.json: damaged .* delete it"):
        read_memory(tmp_path / "digests.json")


def test_files_that_cannot_be_opened_are_named(tmp_path):
    (tmp_path / "there").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    check_files([tmp_path / "there"])
    with pytest.raises(UserError, match=r"broken: no such file"):
        check_files([tmp_path / "there", tmp_path / "broken"])
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        check_files([tmp_path])
