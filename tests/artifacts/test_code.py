import pytest

from fsad.artifacts import code
from fsad.artifacts.code import code_digest, file_code

FILES = {
    "__init__": "",
    "errors": "class Wrong(Exception):\n    pass\n",
    "methods/__init__": "",
    "methods/base": "from fsad.errors import Wrong\n",
    "methods/one/__init__": "",
    "methods/one/method": "import fsad.methods.base\nimport fsad.methods.one.losses\n",
    "methods/one/losses": '"""Losses."""\n\nSCALE = 1\n',
    "methods/two/__init__": "",
    "methods/two/method": "from fsad.methods import base\n",
}
SCRIPT = "import os\nfrom fsad.methods.one import losses\n\nprint(losses, os)\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of sub-packages that a test may change."""
    folder = tmp_path / "fsad"
    for name, text in FILES.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
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


def changes(package, root, module):
    """Whether the digest of a root changes with a module."""
    before = code_digest(root)
    append(package / f"{module}.py", "\nADDED = 1\n")
    return code_digest(root) != before


@pytest.mark.parametrize(
    "module", ["methods/one/method", "methods/one/losses", "methods/base", "errors"]
)
def test_the_digest_changes_with_modules_at_any_depth(package, module):
    assert changes(package, "fsad.methods.one.method", module)


@pytest.mark.parametrize(
    "statement",
    [
        "import fsad.methods.one.losses",
        "import fsad.methods.one.losses as own",
        "from fsad.methods.one import losses",
        "from fsad.methods.one.losses import SCALE",
        "from fsad import methods, errors\nfrom fsad.methods.one import losses",
        "def main():\n    from fsad.methods.one import losses",
    ],
)
def test_each_way_to_import_a_module_counts(package, script, statement):
    script.write_text(f"{statement}\n")
    assert changes(package, script, "methods/one/losses")


@pytest.mark.parametrize("module", ["methods/two/method", "methods/one/method"])
def test_the_digest_keeps_when_other_modules_change(package, script, module):
    assert not changes(package, script, module)


def test_an_edit_of_one_method_does_not_change_another(package):
    assert not changes(package, "fsad.methods.two.method", "methods/one/losses")
    assert changes(package, "fsad.methods.two.method", "methods/base")


def test_the_digest_changes_with_the_script(package, script):
    before = code_digest(script)
    append(script, "print(2)\n")
    assert code_digest(script) != before


def test_the_code_of_a_file_is_its_own_alone(package):
    before = file_code(package / "methods/one/method.py")
    append(package / "methods/one/losses.py", "\nADDED = 1\n")
    assert file_code(package / "methods/one/method.py") == before
    append(package / "methods/one/method.py", "\nADDED = 1\n")
    assert file_code(package / "methods/one/method.py") != before


@pytest.mark.parametrize("added", ["# a comment\n", "\n\n\n"])
def test_the_digest_keeps_with_comments_and_blank_lines(package, script, added):
    before = code_digest(script)
    append(script, added)
    append(package / "methods/one/losses.py", added)
    assert code_digest(script) == before


def test_the_digest_keeps_with_docstrings(package, script):
    before = code_digest(script)
    path = package / "methods/one/losses.py"
    path.write_text(path.read_text().replace("Losses.", "Reworded."))
    assert code_digest(script) == before


def test_the_digest_keeps_in_another_place(package, script, tmp_path):
    before = code_digest(script)
    moved = tmp_path / "elsewhere/scripts" / script.name
    moved.parent.mkdir(parents=True)
    assert code_digest(script.rename(moved)) == before


def test_modules_that_import_each_other_are_read_once(package):
    append(package / "errors.py", "\nfrom fsad.methods.one import method\n")
    assert len(code_digest("fsad.methods.one.method")) == 16


@pytest.mark.parametrize("root", ["fsad.methods.three", "fsad.absent.method"])
def test_a_root_that_is_absent_is_named(package, root):
    with pytest.raises(LookupError, match=f"there is no module {root}"):
        code_digest(root)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import fsad.absent", "there is no module fsad.absent"),
        ("from fsad.absent import x", "there is no module fsad.absent"),
        ("from fsad.methods import three", "there is no module fsad.methods.three"),
        ("from . import errors", "relative import in line 4"),
        ("from .errors import Wrong", "relative import in line 4"),
    ],
)
def test_an_import_that_leads_nowhere_is_named(package, statement, message):
    path = package / "methods/one/losses.py"
    append(path, f"{statement}\n")
    with pytest.raises(LookupError, match=f"{path}: {message}"):
        code_digest("fsad.methods.one.method")


def test_a_script_may_bear_the_name_of_a_module(tmp_path, monkeypatch):
    digests = set()
    for index in range(8):  # paths that differ come out of a set in any order
        module = tmp_path / f"{index}/fsad/tables.py"
        script = tmp_path / f"{index}/scripts/tables.py"
        for path, text in ((module, "X = 1"), (script, "import fsad.tables")):
            path.parent.mkdir(parents=True)
            path.write_text(text)
        monkeypatch.setattr(code, "PACKAGE", module.parent)
        digests.add(code_digest(script))
    assert len(digests) == 1
