"""What made an artefact: versions of packages and the git commit."""

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "fsad",
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


def with_provenance(record: Mapping) -> dict:
    """The settings to store in an artefact: its record, and what made it."""
    return {**record, "provenance": provenance()}


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
