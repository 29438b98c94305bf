import subprocess
import sys

import pytest

from promptad.errors import UserError
from promptad.jobs import one_line_errors

JOB = """
import os, sys
from promptad.errors import UserError
from promptad.jobs import job
print("before")
with job(sys.argv[1], 1):
    print("from Python", flush=True)
    os.write(2, b"from C\\n")
    {last}
"""


def run_job(tmp_path, last="pass"):
    log = tmp_path / "job.log"
    command = [sys.executable, "-c", JOB.format(last=last), str(log)]
    run = subprocess.run(command, capture_output=True, text=True)
    return run, log.read_text()


def test_all_output_of_a_job_goes_to_its_log(tmp_path):
    run, log = run_job(tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "before\n", "")
    assert log == "from Python\nfrom C\ndone\n"


def test_a_user_error_is_one_line_in_the_log(tmp_path):
    run, log = run_job(tmp_path, "raise UserError('a.png: gone')")
    assert run.returncode == 1
    assert log.splitlines()[2:] == ["error: a.png: gone"]


def test_another_error_keeps_its_traceback(tmp_path):
    run, log = run_job(tmp_path, "1 / 0")
    assert run.returncode == 1
    assert "Traceback" in log


def test_a_user_error_ends_with_status_one(capsys):
    with pytest.raises(SystemExit, match="1"), one_line_errors():
        raise UserError("a.png: gone")
    assert capsys.readouterr().err == "error: a.png: gone\n"
