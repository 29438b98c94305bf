"""Inputs and outputs of jobs: cached files with their expected records."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Source(NamedTuple):
    """A cached file and its expected record."""

    path: str
    record: Mapping


class Embedding(NamedTuple):
    """Cached images, and their features, in a file or to compute."""

    images: Source
    features: Source


class RunJob(NamedTuple):
    """Runs of one experiment and class in one job, and the files that they read.

    folders, records: one for each run. test, support (by seed): of their features.
    vision: the tower that computes them in the job, None where they are in files. text,
    prompts: text tower and tokens, None for a method that reads no text. masks: None
    if no run needs them.
    """

    folders: Sequence[str]
    records: Sequence[Mapping]
    test: Embedding
    support: Mapping[int, Embedding]
    vision: Source | None
    text: Source | None
    prompts: Source | None
    masks: Source | None

    def inputs(self) -> list[str]:
        """Paths of all files that the job reads."""
        sets = self.test, *self.support.values()
        read = [x.images if self.vision else x.features for x in sets]
        shared = filter(None, (self.vision, self.text, self.prompts, self.masks))
        return [source.path for source in (*read, *shared)]
