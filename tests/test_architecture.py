"""The structure of the library: directions of imports, lengths of functions."""

import ast
import statistics

import pytest

from helpers import REPOSITORY

WORKFLOW = REPOSITORY / "workflow"
LEVELS = (
    {"errors"},
    {"artifacts", "jobs"},
    {"data"},
    {"backbones"},
    {"methods"},
    {"evaluation"},
    {"deployment"},
    {"reports"},
    {"planning"},
    {"reference", "demo"},
    {"single", "cli"},
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
MODULES = sorted((WORKFLOW / "fsad").rglob("*.py"))
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def room(parts):
    """The sub-package or module directly below fsad."""
    return parts[0].removesuffix(".py")


def imports(path):
    """Dotted names of the modules that a file imports, and names from packages."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(WORKFLOW)))
def test_imports_go_down(path):
    parts = path.relative_to(WORKFLOW / "fsad").parts
    own = LEVEL.get(room(parts))
    for name in imports(path):
        top, *inside = name.split(".")
        assert top != "snakemake", f"{path}: the library knows nothing of Snakemake"
        if top == "fsad" and inside[0] in LEVEL and own is not None:
            assert LEVEL[inside[0]] <= own, f"{path} imports {name}"


def test_there_are_no_import_circles():
    graph = {}
    for path in MODULES:
        names = path.relative_to(WORKFLOW).with_suffix("").parts
        graph[".".join(names).removesuffix(".__init__")] = set(imports(path))
    known = {
        module: {
            found
            for name in names
            for found in (name, name.rpartition(".")[0])
            if found in graph and found != "fsad"
        }
        for module, names in graph.items()
    }
    while leaves := [module for module, names in known.items() if not names]:
        known = {m: names - {*leaves} for m, names in known.items() if m not in leaves}
    assert known == {}


def test_functions_are_short():
    paths = sorted(WORKFLOW.rglob("*.py"))
    found = [n for p in paths for n in ast.walk(ast.parse(p.read_text()))]
    functions = [node for node in found if isinstance(node, FUNCTIONS)]
    lengths = {f.name: f.end_lineno - f.lineno + 1 for f in functions}
    assert {name: n for name, n in lengths.items() if n > 40} == {}
    assert statistics.median(f.end_lineno - f.lineno + 1 for f in functions) <= 7
    for function in functions:
        arguments = [*function.args.posonlyargs, *function.args.args]
        named = [a.arg for a in arguments if a.arg not in ("self", "cls")]
        assert len(named) <= 5, function.name
