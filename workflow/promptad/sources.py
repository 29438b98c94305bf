"""Which code makes an artefact, as a digest that pipeline rules depend on."""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
SCRIPTS = PACKAGE.parent / "scripts"
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def code_digest(script: str | Path) -> str:
    """Digest of a script and of all modules of this package it imports, at any depth.

    It changes with the code, not with comments, docstrings, file times or the
    checkout's place.
    """
    digest = hashlib.sha256()
    for path in sorted(_reached(Path(script)), key=lambda path: path.parts[-2:]):
        digest.update(_module(path.read_text(encoding="utf-8"))[0].encode())
    return digest.hexdigest()[:16]


def _reached(script: Path) -> set[Path]:
    reached, waiting = set(), [script]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += _imported(path)
    return reached


def _imported(path: Path) -> list[Path]:
    _, names = _module(path.read_text(encoding="utf-8"))
    candidates = [PACKAGE / f"{name.removeprefix('promptad.')}.py" for name in names]
    return [candidate for candidate in candidates if candidate.is_file()]


@cache
def _module(source: str) -> tuple[str, list[str]]:
    """The syntax tree of a module in words, without docstrings, and its imports.

    Kept, since most scripts share most modules and planning digests every script.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree), [name for node in ast.walk(tree) for name in _names(node)]


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom) and node.module == "promptad":
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("promptad."):
        return [node.module]
    return []
