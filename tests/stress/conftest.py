"""Hurts the real pipeline and counts what survived.

In `pytest` a short part runs; with --stress all does, and results/stress/report.md
is written: a line for each test, which its docstring words, with the number of its
cases that passed and what it measured (`record_property`).
"""

from collections import defaultdict

import hypothesis
import pytest

from fsad.artifacts.files import write_text
from helpers import REPOSITORY

REPORT = REPOSITORY / "results/stress/report.md"
OUTCOMES = pytest.StashKey[dict]()
EXAMPLES = 300  # of each property


def pytest_addoption(parser):
    parser.addoption("--stress", action="store_true", help="all cases, and a report")


def is_full(config) -> bool:
    """Whether all cases run, not the short part of `make test`."""
    return config.getoption("--stress", False)


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs in `make stress` alone")
    if is_full(config):
        common = hypothesis.settings.get_profile("tests")
        hypothesis.settings.register_profile("stress", common, max_examples=EXAMPLES)
        hypothesis.settings.load_profile("stress")


def pytest_generate_tests(metafunc):
    """`case` runs over the CASES of the module, every SHORT-th in the short part."""
    if "case" in metafunc.fixturenames:
        module = metafunc.module
        step = 1 if is_full(metafunc.config) else module.SHORT
        metafunc.parametrize("case", list(module.CASES)[::step])


def pytest_collection_modifyitems(config, items):
    """Tests marked `long` run with --stress alone."""
    for item in items:
        if item.get_closest_marker("long") and not is_full(config):
            item.add_marker(pytest.mark.skip(reason="long; `make stress` runs it"))


@pytest.fixture(scope="session")
def full(pytestconfig) -> bool:
    """Whether all cases run."""
    return is_full(pytestconfig)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call" or (call.when == "setup" and not report.passed):
        outcomes = item.config.stash.setdefault(OUTCOMES, defaultdict(list))
        outcomes[item.module.__doc__, item.function.__doc__].append(report)
    return report


def pytest_sessionfinish(session):
    outcomes = session.config.stash.get(OUTCOMES, {})
    if is_full(session.config) and outcomes:
        write_text(REPORT, _report(outcomes))


def _report(outcomes: dict) -> str:
    chapters = defaultdict(list)
    for (chapter, line), reports in outcomes.items():
        chapters[_first(chapter)].append(_row(_first(line), reports))
    parts = ["# Stress"]
    for chapter, rows in chapters.items():
        head = "| | survived | |\n|---|---:|---|"
        parts += [f"## {chapter}", "\n".join([head, *rows])]
    return "\n\n".join(parts) + "\n"


def _row(line: str, reports: list) -> str:
    passed = sum(report.passed for report in reports)
    ran = sum(not report.skipped for report in reports)
    notes = [f"{name}: {value}" for r in reports for name, value in r.user_properties]
    return f"| {line} | {passed} of {ran} | {'; '.join(notes)} |"


def _first(text: str) -> str:
    return text.strip().splitlines()[0].rstrip(".")
