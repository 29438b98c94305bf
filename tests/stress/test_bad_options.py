"""Bad configurations."""

import json

import pytest
import yaml
from forked import snakemake
from options import cases

from helpers import REPOSITORY, TINY
from project import Project

WRONG = cases()
CASES = list(WRONG)
SHORT = 25


@pytest.fixture
def place(tmp_path):
    """A project that would run, without its configuration."""
    project = Project(tmp_path).write()
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    return project


def changed(case, right, change):
    """The text of the right configuration with a change."""
    if case.startswith("whole: "):
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
    arguments = ["--snakefile", REPOSITORY / "Snakefile", "--dry-run"]
    arguments += ["--configfile", place.config, "--cores", "2"]
    ended = snakemake(place.folder, *map(str, arguments))
    assert ended.status == 1, ended
    assert culprit in ended.output.partition("Config MD5")[2] or culprit in last(ended)
    assert "Traceback" not in ended.output
    assert listing(place.folder) == before


def last(ended):
    return "\n".join(ended.output.splitlines()[-12:])
