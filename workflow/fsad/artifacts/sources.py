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

    folders, records: one for each run. test, support (by seed): images and features.
    vision: the tower, which sees support images anew to calibrate. text, prompts: text
    tower and tokens, None for a method that reads no text. masks: None if no run needs
    them. stored: whether the features are in files, else the job computes them.
    """

    folders: Sequence[str]
    records: Sequence[Mapping]
    test: Embedding
    support: Mapping[int, Embedding]
    vision: Source
    text: Source | None
    prompts: Source | None
    masks: Source | None
    stored: bool = True

    def inputs(self) -> list[str]:
        """Paths of all files that the job reads."""
        drawn = [x.images for x in self.support.values()]
        sets = self.test, *self.support.values()
        read = [x.features for x in sets] if self.stored else [self.test.images]
        shared = filter(None, (self.vision, self.text, self.prompts, self.masks))
        return [source.path for source in (*drawn, *read, *shared)]
