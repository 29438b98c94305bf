import os
import re
import subprocess
import sys

import pytest

from fsad.errors import UserError
from fsad.jobs.environment import check_environment
from helpers import REPOSITORY


def test_the_environment_of_the_tests_is_no_fault():
    check_environment("/home/zoë/fsad-1.0_x/.venv/bin/python3.11")


@pytest.mark.parametrize("sign", [*" ()[]{}<>$&;|*'\n\""])
def test_signs_of_the_shell_in_its_path_are_refused(sign):
    path = f"/home/a{sign}b/.venv/bin/python"
    message = f"^{re.escape(path)}: the path of the environment must hold no space"
    with pytest.raises(UserError, match=message):
        check_environment(path)


@pytest.mark.parametrize(("folder", "status"), [("a (1)", 1), ("a-1", 0)])
def test_before_packages_are_installed_it_is_one_line(tmp_path, folder, status):
    command = [sys.executable, "-S", "-m", "fsad.jobs.environment"]  # no packages
    command.append(f"{folder}/bin/python")
    library = {"PYTHONPATH": str(REPOSITORY / "workflow")}
    given = {"cwd": tmp_path, "env": os.environ | library}
    run = subprocess.run(command, capture_output=True, text=True, **given)
    assert run.returncode == status, run.stderr
    lines = run.stderr.splitlines()
    assert len(lines) == status
    assert all(x.startswith(f"error: {tmp_path}/{folder}/bin/python: ") for x in lines)
