"""Provenance of artefacts: versions of packages and the git commit."""

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "fsad",
    "torch",
    "open_clip_torch",
    "timm",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "pillow",
    "snakemake",
)


def provenance() -> dict:
    """Versions of Python and of packages that affect results, and the commit."""
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": git_commit(),
    }


def with_provenance(record: Mapping) -> dict:
    """Settings to store in an artefact: its record and its provenance."""
    return {**record, "provenance": provenance()}


def git_commit() -> str | None:
    """Commit of the checkout of this package, None outside a repository."""
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
