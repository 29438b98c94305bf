"""Names in one Unicode form, and names of output files that file systems take."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

LONGEST = 255 - len("..4194304.tmp")  # bytes; see `files.TEMPORARY`
DIGEST_LENGTH = 12
MEAN = "mean"  # row of tables over all classes, so the name of none


def nfc(text: str) -> str:
    """Text in its composed Unicode form, in which names are compared."""
    return unicodedata.normalize("NFC", text)


def file_names(wanted: Mapping[str, str]) -> dict[str, str]:
    """A path for each input: the wanted one, if that is short enough and its alone.

    wanted: relative paths with a suffix, by the names of inputs. Any other path ends in
    a digest of the input's name. Two paths are the same in another Unicode form, too,
    and a file cannot have the path of a folder.
    """
    forms = {name: nfc(path) for name, path in wanted.items()}
    folders = {str(x) for form in forms.values() for x in PurePosixPath(form).parents}
    counts = Counter([*forms.values(), *folders])
    return {
        name: path if counts[forms[name]] == 1 and _fits(path) else _short(name, path)
        for name, path in wanted.items()
    }


def _fits(path: str) -> bool:
    return len(os.fsencode(PurePosixPath(path).name)) <= LONGEST


def _short(name: str, path: str) -> str:
    last = PurePosixPath(path)
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:DIGEST_LENGTH]
    end = f"-{digest}{last.suffix}"
    start = os.fsencode(last.stem)[: LONGEST - len(os.fsencode(end))]
    return str(last.with_name(start.decode("utf-8", "ignore") + end))
