"""Inputs and outputs of jobs: cached files with their expected records."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Source(NamedTuple):
    """A cached file and its expected record."""

    path: str
    record: Mapping


class Embedding(NamedTuple):
    """Cached images, and the features to compute from them."""

    images: Source
    features: Source


class RunJob(NamedTuple):
    """Runs of one experiment and class in one job, and the files that they read.

    folders, records: one for each run. test, support (by seed): features. text,
    prompts: text tower and tokens, None for a method that reads no text. masks: None
    if no run needs them.
    """

    folders: Sequence[str]
    records: Sequence[Mapping]
    test: Source
    support: Mapping[int, Source]
    text: Source | None
    prompts: Source | None
    masks: Source | None

    def inputs(self) -> list[str]:
        """Paths of all files that the job reads."""
        shared = self.test, self.text, self.prompts, self.masks
        sources = [*self.support.values(), *filter(None, shared)]
        return [source.path for source in sources]
