import shutil

import pytest

from fsad.artifacts import code

SCRIPT = "from promptad import losses\nfrom promptad.jobs import job\n\nprint(1)\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package whose modules a test may change."""
    folder = tmp_path / "promptad"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(code.PACKAGE, folder, ignore=ignored)
    monkeypatch.setattr(code, "PACKAGE", folder)
    return folder


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "scripts/script.py"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return path


def append(path, text):
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    "module", ["losses", "jobs", "text", "transformer", "storage", "errors"]
)
def test_the_digest_changes_with_modules_at_any_depth(package, script, module):
    before = code.code_digest(script)
    append(package / f"{module}.py", "\nADDED = 1\n")
    assert code.code_digest(script) != before


@pytest.mark.parametrize("module", ["tables", "layouts"])
def test_the_digest_keeps_when_other_modules_change(package, script, module):
    before = code.code_digest(script)
    append(package / f"{module}.py", "\nADDED = 1\n")
    assert code.code_digest(script) == before


def test_the_digest_changes_with_the_script(package, script):
    before = code.code_digest(script)
    append(script, "print(2)\n")
    assert code.code_digest(script) != before


@pytest.mark.parametrize("added", ["# a comment\n", "\n\n\n"])
def test_the_digest_keeps_with_comments_and_blank_lines(package, script, added):
    before = code.code_digest(script)
    append(script, added)
    append(package / "text.py", added)
    assert code.code_digest(script) == before


def test_the_digest_keeps_with_docstrings(package, script):
    before = code.code_digest(script)
    path = package / "losses.py"
    assert '"""' in path.read_text()
    path.write_text(path.read_text().replace('"""', '"""Reworded. ', 1))
    assert code.code_digest(script) == before


def test_the_digest_keeps_in_another_place(package, script, tmp_path):
    before = code.code_digest(script)
    moved = tmp_path / "elsewhere/scripts" / script.name
    moved.parent.mkdir(parents=True)
    assert code.code_digest(script.rename(moved)) == before


def test_an_import_within_a_function_counts(package, script):
    script.write_text("def main():\n    from promptad import tables\n    tables\n")
    before = code.code_digest(script)
    append(package / "tables.py", "\nADDED = 1\n")
    assert code.code_digest(script) != before


def test_modules_that_import_each_other_are_read_once(package, script):
    append(package / "errors.py", "\nfrom promptad import losses\n")
    assert len(code.code_digest(script)) == 16


def test_a_script_may_bear_the_name_of_a_module(tmp_path, monkeypatch):
    digests = set()
    for index in range(8):  # paths that differ come out of a set in any order
        module = tmp_path / f"{index}/promptad/tables.py"
        script = tmp_path / f"{index}/scripts/tables.py"
        for path, code in ((module, "X = 1"), (script, "from promptad import tables")):
            path.parent.mkdir(parents=True)
            path.write_text(code)
        monkeypatch.setattr(code, "PACKAGE", module.parent)
        digests.add(code.code_digest(script))
    assert len(digests) == 1
