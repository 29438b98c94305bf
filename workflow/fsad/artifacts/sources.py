"""Cached files with the records that they must hold, as jobs get them from the plan."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Source(NamedTuple):
    """A cached file and its record."""

    path: str
    record: Mapping


class Embedding(NamedTuple):
    """Cached images, and the features to make of them."""

    images: Source
    features: Source


class RunJob(NamedTuple):
    """The runs of a job, all of one experiment and class, and the files they read.

    folders, records: of each run. test, support (by seed): features. text, prompts: text
    tower and tokens, None for a method that reads no text. masks: None where no run
    needs any.
    """

    folders: Sequence[str]
    records: Sequence[Mapping]
    test: Source
    support: Mapping[int, Source]
    text: Source | None
    prompts: Source | None
    masks: Source | None

    def inputs(self) -> list[str]:
        """The paths of all files that the job reads."""
        shared = self.test, self.text, self.prompts, self.masks
        sources = [*self.support.values(), *filter(None, shared)]
        return [source.path for source in sources]
