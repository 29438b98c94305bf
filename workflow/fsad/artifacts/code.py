"""Digests of code: which code of this package makes an artefact."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAME = PACKAGE.name
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def code_digest(*roots: str | Path) -> str:
    """Digest of scripts and modules and of all package code they import, at any depth.

    roots: paths of files, or names of modules of this package. The digest changes with
    the code, not with comments, docstrings, file times or the checkout's place. A module
    that is imported by a name in a string is not found; name it as a root. Raises
    LookupError for an import of this package that leads to no file.
    """
    digest = hashlib.sha256()
    paths = [root if isinstance(root, Path) else _module_file(root) for root in roots]
    for path in sorted(_reached(paths), key=_place):
        digest.update(_parsed(path.read_text(encoding="utf-8"))[0].encode())
    return digest.hexdigest()[:16]


def file_code(path: str | Path) -> str:
    """Digest of the code of one file, without that which it imports."""
    source = Path(path).read_text(encoding="utf-8")
    return hashlib.sha256(_parsed(source)[0].encode()).hexdigest()[:16]


def _place(path: Path) -> tuple[str, ...]:
    """Where a file lies in the package; scripts, which lie outside, come by name."""
    inside = path.is_relative_to(PACKAGE)
    return path.relative_to(PACKAGE).parts if inside else ("", path.name)


def _reached(paths: list[Path]) -> set[Path]:
    reached, waiting = set(), list(paths)
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += _imported(path)
    return reached


def _imported(path: Path) -> list[Path]:
    _, imports = _parsed(path.read_text(encoding="utf-8"))
    files = []
    for module, name in imports:
        try:
            files += [_module_file(module), *_submodule(module, name)]
        except LookupError as error:
            raise LookupError(f"{path}: {error}") from None
    return files


def _module_file(module: str) -> Path:
    """The file of a module or sub-package by its dotted name."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    raise LookupError(f"there is no module {module}")


def _submodule(module: str, name: str | None) -> list[Path]:
    """The file of `name` where it is imported from a sub-package, whose own names are
    modules alone."""
    is_package = _module_file(module).name == "__init__.py"
    return [_module_file(f"{module}.{name}")] if is_package and name else []


@cache
def _parsed(source: str) -> tuple[str, list[tuple[str, str | None]]]:
    """The syntax tree of a module as text, without docstrings, and its imports.

    Kept, since most stages share most modules and planning digests every stage.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree), [found for node in ast.walk(tree) for found in _own(node)]


def _own(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    """(module, name) of each import of this package by a statement."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        yield from ((name, None) for name in names if name.split(".")[0] == NAME)
    if isinstance(node, ast.ImportFrom):
        if node.level:
            raise LookupError(f"relative import in line {node.lineno}: name the module")
        if node.module.split(".")[0] == NAME:
            yield from ((node.module, alias.name) for alias in node.names)
