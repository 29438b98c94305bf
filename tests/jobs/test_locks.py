import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from fsad.errors import UserError
from fsad.jobs import locks
from fsad.jobs.locks import bring_back, hold

HOLDER = """
import sys, time
from fsad.jobs.locks import hold
hold(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLDER, tmp_path / "results"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_held_folder_is_refused(holder, tmp_path):
    with pytest.raises(UserError, match=f"another run is at work in {tmp_path}"):
        hold(tmp_path / "results")


def test_another_folder_is_free(holder, tmp_path):
    hold(tmp_path / "others")


def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    hold(tmp_path / "results")


def test_dates_in_the_future_are_brought_back_in_their_order(tmp_path):
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
    bring_back(tmp_path)
    found = {name: (tmp_path / name).stat().st_mtime for name in dates}
    assert sorted(found, key=found.get) == list(dates)
    assert found["old"] == pytest.approx(now - 50, abs=1e-3)
    assert max(found.values()) <= time.time()


def test_what_vanishes_meanwhile_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.os, "walk", lambda folder: [(folder, [], ["gone"])])
    bring_back(tmp_path)


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    hold(tmp_path)
    assert f"nothing keeps a second run out of {tmp_path}" in caplog.text


def no_locks(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")
