"""What made an artefact: versions and git commit."""

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from promptad.sources import SCRIPTS, code_digest

PACKAGES = (
    "promptad",
    "torch",
    "open_clip_torch",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "pillow",
    "snakemake",
)


def provenance() -> dict:
    """Versions of Python and of the packages that shape results, and the commit."""
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": git_commit(),
    }


def settings(**options: object) -> dict:
    """What to store beside an artefact: the options that made it, and provenance."""
    return {**options, "provenance": provenance()}


def origin(script: str, **facts: object) -> dict:
    """What an artefact made by a script of the pipeline must tell of itself.

    See `storage.check_origin`. facts: its class and the like.
    """
    return {"code": _script_digest(script), **facts}


@cache
def _script_digest(script: str) -> str:
    """Kept, since tables ask for it once for each of thousands of runs."""
    return code_digest(SCRIPTS / script)


def tower_origin(path: str | Path) -> dict:
    """What a tower must tell of itself: its part of the backbone that its folder names.

    path: .../BACKBONE/PART.safetensors.
    """
    path = Path(path)
    return origin("backbone.py", backbone_name=path.parent.name, part=path.stem)


def git_commit() -> str | None:
    """Commit of the checkout this package lies in, None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        run = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return run.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
