"""Which code makes an artefact, as a digest that pipeline rules depend on."""

import ast
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def code_digest(script: str | Path) -> str:
    """Digest of a script and of all modules of this package it imports, at any depth.

    It changes with the code, not with comments, docstrings, file times or the
    checkout's place.
    """
    digest = hashlib.sha256()
    for path in sorted(_reached(Path(script)), key=lambda path: path.parts[-2:]):
        digest.update(_code(path).encode())
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
    names = [name for node in ast.walk(_parsed(path)) for name in _names(node)]
    candidates = [PACKAGE / f"{name.removeprefix('promptad.')}.py" for name in names]
    return [candidate for candidate in candidates if candidate.is_file()]


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom) and node.module == "promptad":
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("promptad."):
        return [node.module]
    return []


def _code(path: Path) -> str:
    """The syntax tree of a file in words, without its docstrings."""
    tree = _parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
