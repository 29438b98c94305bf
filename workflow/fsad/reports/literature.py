"""Published results, which are shown beside runs of the same setting."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from fsad.errors import UserError

COLUMNS = ["method", "dataset", "shots", "metric"]
COLUMNS += ["value", "value_to", "protocol", "source"]
# A published mean is over all of these; a mean over fewer cannot be compared with it.
CLASSES = {
    "mvtec": {
        *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather"),
        *("metal_nut", "pill", "screw", "tile", "toothbrush", "transistor"),
        *("wood", "zipper"),
    },
    "visa": {
        *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1"),
        *("macaroni2", "pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
    },
}


def read_literature(path: str | Path) -> pd.DataFrame:
    """Read a CSV file with COLUMNS; values in percent, as text.

    `value_to` is empty, or the upper end of a range that begins at `value`. Raises
    UserError if the file cannot be read or is malformed.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if list(table.columns) != COLUMNS:
            raise ValueError(f"its columns must be {','.join(COLUMNS)}")
        table[["value", "value_to"]].apply(pd.to_numeric)
        return table.astype({"shots": int})
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}; mend it") from error


def same_setting(
    literature: pd.DataFrame, dataset: str, classes: Iterable[str]
) -> pd.DataFrame:
    """Rows of a data set if `classes` are all of its classes, else none."""
    complete = CLASSES.get(dataset) == set(classes)
    return literature[(literature["dataset"] == dataset) & complete]


def of_method(literature: pd.DataFrame, method: str) -> pd.DataFrame:
    """Rows of a method, by its name in a configuration.

    A published name has capitals, and a `+` where support images are an extension.
    """
    return literature[literature["method"].str.lower().str.rstrip("+") == method]
