"""Bad configurations."""

import pytest
import yaml

from project import Project
from stress.options import cases

pytestmark = pytest.mark.long  # tests/planning has a case of each kind, on functions
WRONG = cases()
CASES = list(WRONG)
SHORT = len(CASES)


@pytest.fixture
def place(tmp_path):
    """A project that would run, and a folder without images."""
    (tmp_path / "empty").mkdir()
    return Project(tmp_path).write()


def changed(case, right, change):
    """The text of the right configuration with a change."""
    if case.startswith("file: "):
        return change
    if case.startswith("line: "):
        return f"{right}\n{change}\n"
    return yaml.safe_dump(yaml.safe_load(right) | change)


def listing(folder):
    return {p for p in folder.rglob("*") if ".snakemake" not in p.parts}


def test_a_wrong_option_is_named_while_planning(place, case):
    """Configurations, each refused in one error that names the option or file."""
    change, culprit = WRONG[case]
    place.config.write_text(changed(case, place.config.read_text(), change))
    before = listing(place.folder)
    run = place.snakemake("--dry-run", check=False)
    output = run.stdout + run.stderr
    assert run.returncode == 1, output
    assert culprit in error_of(output), output
    assert "Traceback" not in output
    assert listing(place.folder) == before


def error_of(output):
    """What follows the head of a call, which names files of the configuration."""
    _, head, error = output.rpartition("Config MD5")
    return error if head else "\n".join(output.splitlines()[-12:])
