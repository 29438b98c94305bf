import re

import pytest

from fsad.errors import UserError
from fsad.jobs.environment import check_environment


def test_the_environment_of_the_tests_is_no_fault():
    check_environment("/home/zoë/fsad-1.0_x/.venv/bin/python3.11")


@pytest.mark.parametrize("sign", [*" ()[]{}<>$&;|*'\n\""])
def test_signs_of_the_shell_in_its_path_are_refused(sign):
    path = f"/home/a{sign}b/.venv/bin/python"
    message = f"^{re.escape(path)}: the path of the environment must hold no space"
    with pytest.raises(UserError, match=message):
        check_environment(path)
