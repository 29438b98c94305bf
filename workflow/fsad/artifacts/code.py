"""Digests of the code that makes an artefact."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAME = PACKAGE.name
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def code_digest(*roots: str | Path) -> str:
    """Digest of scripts or modules and of all code of this package they import.

    roots: paths of files, or names of modules of this package. Imports are followed to
    any depth. The digest changes with the code, not with comments, docstrings, file
    times or the location of the checkout. A module imported by a name in a string is
    not found; name it as a root. Raises LookupError for an import of this package that
    leads to no file.
    """
    digest = hashlib.sha256()
    paths = [root if isinstance(root, Path) else _module_file(root) for root in roots]
    for path in sorted(_reached(paths), key=_sort_key):
        digest.update(_parsed(path.read_text(encoding="utf-8"))[0].encode())
    return digest.hexdigest()[:16]


def file_code(path: str | Path) -> str:
    """Digest of the code of one file, without the modules that it imports."""
    source = Path(path).read_text(encoding="utf-8")
    return hashlib.sha256(_parsed(source)[0].encode()).hexdigest()[:16]


def _sort_key(path: Path) -> tuple[str, ...]:
    """Path of a module within the package; scripts come first, by name."""
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
    try:
        _, imports = _parsed(path.read_text(encoding="utf-8"))
        return [file for name in imports for file in _files(*name)]
    except LookupError as error:
        raise LookupError(f"{path}: {error}") from None


def _files(module: str, name: str | None) -> list[Path]:
    """File of an imported module; of a sub-package also that of its module `name`."""
    file = _module_file(module)
    is_package = file.name == "__init__.py"
    return [file, _module_file(f"{module}.{name}")] if is_package and name else [file]


def _module_file(module: str) -> Path:
    """File of a module or sub-package with this dotted name."""
    stem = PACKAGE.joinpath(*module.split(".")[1:])
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    raise LookupError(f"there is no module {module}")


@cache
def _parsed(source: str) -> tuple[str, list[tuple[str, str | None]]]:
    """Syntax tree of a module as text, without docstrings, and its imports.

    Cached, since planning digests every stage and most stages share most modules.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree), [name for node in ast.walk(tree) for name in _imports(node)]


def _imports(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    """(module, name) of each import of this package in a statement."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        yield from ((name, None) for name in names if name.split(".")[0] == NAME)
    if isinstance(node, ast.ImportFrom):
        if node.level:
            raise LookupError(f"relative import in line {node.lineno}: name the module")
        if node.module.split(".")[0] == NAME:
            yield from ((node.module, alias.name) for alias in node.names)
