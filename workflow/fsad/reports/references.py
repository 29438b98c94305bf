"""References to cite, in BibTeX, of the methods, backbones and data sets of runs."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from fsad.errors import UserError

ENTRY = re.compile(r"^@\w+\{(\S+),\n.*?^\}\n", re.MULTILINE | re.DOTALL)
# Parts of the names of backbones, and the keys of what to cite for them.
BACKBONES = {
    "ViT-": ("clip", "open_clip"),
    "dinov2": ("dinov2",),
    "reg4_dinov2": ("registers",),
    "wide_resnet": ("wide_resnet",),
}


def read_references(path: str | Path) -> dict[str, str]:
    """Read the entries of a BibTeX file, by key.

    An entry begins with `@TYPE{KEY,` and ends with `}`, each a line of its own. Raises
    UserError if the file cannot be read or has no entry.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}; mend it") from error
    entries = {found[1]: found[0] for found in ENTRY.finditer(text)}
    if not entries:
        raise UserError(f"{path}: has no BibTeX entry; mend it")
    return entries


def cited(runs: Iterable[Mapping], references: Mapping[str, str]) -> list[str]:
    """Keys of the references of what runs used, in the order of `references`.

    runs: see `tables.read_runs`. What has no entry, such as data of one's own, is left
    out.
    """
    used = set()
    for settings in (run["settings"] for run in runs):
        used |= {settings["method"], settings["dataset"]}
        parts = (part for part in BACKBONES if part in settings["backbone"])
        used.update(key for part in parts for key in BACKBONES[part])
    return [key for key in references if key in used]


def bibliography(keys: Iterable[str], references: Mapping[str, str]) -> str:
    """A BibTeX file of these entries."""
    return "\n".join(references[key] for key in keys)
