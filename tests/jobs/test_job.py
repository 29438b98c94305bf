import subprocess
import sys
import time

import psutil
import pytest

from fsad.errors import UserError
from fsad.jobs.job import program
from fsad.jobs.parent_watch import SNAKEMAKE_PID

JOB = """
{first}
import os, sys
from fsad.errors import UserError
from fsad.jobs.job import job
print("before")
with job(sys.argv[1], 1):
    print("from Python", flush=True)
    os.write(2, b"from C\\n")
    {last}
"""


def run_job(tmp_path, last="pass", first="pass"):
    log = tmp_path / "job.log"
    command = [sys.executable, "-c", JOB.format(first=first, last=last), str(log)]
    run = subprocess.run(command, capture_output=True, text=True)
    return run, log.read_text().splitlines()


def test_all_output_of_a_job_goes_to_its_log(tmp_path):
    at_exit = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count()))"
    run, log = run_job(tmp_path, first=at_exit)
    assert (run.returncode, run.stdout, run.stderr) == (0, "before\n", "")
    assert log[:3] == ["from Python", "from C", "done"]
    assert int(log[3]) > 0  # it ends without a search for cycles


def test_a_user_error_is_one_line_in_the_log(tmp_path):
    run, log = run_job(tmp_path, "raise UserError('a.png: gone')")
    assert run.returncode == 1
    assert log[2:] == ["error: a.png: gone"]


def test_a_user_error_ends_with_status_one(capsys):
    with pytest.raises(SystemExit, match="1"), program():
        raise UserError("a.png: gone")
    assert capsys.readouterr().err == "error: a.png: gone\n"


def test_another_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), program():
        raise ZeroDivisionError


def test_a_job_ends_with_the_process_that_started_it(tmp_path):
    log = tmp_path / "job.log"
    often = "from fsad.jobs import parent_watch; parent_watch.POLL_SECONDS = 0.01"
    job = JOB.format(first=often, last="import time; time.sleep(60)")
    start = (
        "import os, subprocess, sys; os.environ[sys.argv[1]] = str(os.getpid()); "
        "print(subprocess.Popen(sys.argv[2:]).pid)"
    )
    command = [sys.executable, "-c", start, SNAKEMAKE_PID]
    command += [sys.executable, "-c", job, log]
    run = subprocess.run(command, capture_output=True, text=True)
    pid = int(run.stdout.splitlines()[0])
    assert ends(pid)
    assert not log.exists() or "done" not in log.read_text()


def ends(pid, seconds=30):
    """Whether a process ends by itself within so many seconds."""
    for _ in range(100 * seconds):
        if not psutil.pid_exists(pid):
            return True
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.01)
    return False
