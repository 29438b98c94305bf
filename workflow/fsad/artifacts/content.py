"""Digests of files and of JSON values."""

import hashlib
import json
from pathlib import Path


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(value: object) -> str:
    """SHA-256 of a value as JSON with sorted keys, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_of(*values: object) -> str:
    """Short digest of JSON values."""
    return content_digest(values)[:16]
