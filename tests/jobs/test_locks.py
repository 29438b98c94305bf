import errno
import os
import subprocess
import sys
import time

import pytest

from fsad.errors import UserError
from fsad.jobs import locks
from fsad.jobs.locks import lock_results, reset_future_mtimes

HOLDER = """
import sys
from fsad.jobs.locks import lock_results
lock_results(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_locked_folder_is_refused(tmp_path):
    lock_results(tmp_path / "results")
    with pytest.raises(UserError, match=f"another run is at work in {tmp_path}"):
        lock_results(tmp_path / "results")
    lock_results(tmp_path / "others")


def test_a_killed_process_leaves_no_lock(tmp_path):
    command = [sys.executable, "-c", HOLDER, tmp_path]
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another run is at work"):
            lock_results(tmp_path)
        process.kill()
    lock_results(tmp_path)


def test_times_in_the_future_are_reset_in_their_order(tmp_path):
    now = time.time()
    dates = {
        "old": now - 50,
        "late": now + 90,
        "later": now + 99,
        "sub/last": now + 100,
    }
    for name, date in dates.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        os.utime(path, (date, date))
    reset_future_mtimes(tmp_path)
    found = {name: (tmp_path / name).stat().st_mtime for name in dates}
    assert sorted(found, key=found.get) == list(dates)
    assert found["old"] == pytest.approx(now - 50, abs=1e-3)
    assert max(found.values()) <= time.time()


def test_files_that_vanish_meanwhile_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.os, "walk", lambda folder: [(folder, [], ["gone"])])
    reset_future_mtimes(tmp_path)


def test_a_file_system_without_locks_is_warned_about(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    lock_results(tmp_path)
    assert f"nothing keeps a second run out of {tmp_path}" in caplog.text


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/results cannot be written \(Not a"):
        lock_results(tmp_path / "file/results")
