"""The plan of a configuration: jobs, their files, and the records of these.

Everything that an artefact depends on is known while planning: digests of images,
masks, weights and code, options and words. They stand in its record, which decides
whether an artefact on disk is as planned.
"""

import difflib
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TypeVar

from fsad.artifacts.content import digest_of
from fsad.artifacts.digests import (
    Memory,
    check_files,
    file_digests,
    read_memory,
    write_memory,
)
from fsad.artifacts.files import has_record, read_record
from fsad.artifacts.paths import RUN, Run, fill, results_tree, run_path
from fsad.artifacts.sources import Embedding, RunJob, Source
from fsad.artifacts.stages import identity, is_same, record, stage_code
from fsad.backbones.spec import (
    backbone_name,
    check_backbone,
    feature_numbers,
    image_size,
)
from fsad.data.layouts import ClassFiles, find_images
from fsad.errors import UserError
from fsad.jobs.status import Planned
from fsad.planning import options

T = TypeVar("T")
Place = tuple[str, str]  # data set and class


class PlannedClass:
    """The files of one class, and digests of their contents."""

    def __init__(self, files: ClassFiles, memory: Memory):
        self.files = files
        self._memory = memory

    @cached_property
    def test_digest(self) -> str:
        """Digest of the test images: their names, labels and contents."""
        samples = self.files.test
        known = file_digests([sample.path for sample in samples], self._memory)
        return digest_of([(s.name, s.label, known[s.path]) for s in samples])

    @cached_property
    def mask_digest(self) -> str:
        """Digest of the masks: the images they belong to, and their contents."""
        known = file_digests(self.files.mask_files, self._memory)
        return digest_of([(s.name, known.get(s.mask)) for s in self.files.test])

    def digests(self, samples: list) -> list[list[str]]:
        """Name and digest of each of these images."""
        known = file_digests([sample.path for sample in samples], self._memory)
        return [[sample.name, known[sample.path]] for sample in samples]


class Plan:
    """The plan of a configuration; `config` is completed, `tree` are its paths."""

    def __init__(self, config: Mapping, strict: bool = True):
        """Raises UserError if the configuration, or a class of it, is not as it should
        be. strict: without, classes that cannot be listed are left out."""
        self.config = options.complete(config)
        self.tree = results_tree(self.config["results"])
        self.memory = read_memory(self.tree.digests)
        check_backbone(self.config["backbone"], self.memory)
        self.backbone = backbone_name(self.config["backbone"], self.memory)
        self.size = image_size(self.config["backbone"])
        self.classes = self._listed(strict)
        self.runs = self._runs()
        self._made: dict[tuple, object] = {}
        if strict:
            self._check()

    def _listed(self, strict: bool) -> dict[Place, PlannedClass]:
        found = {}
        for dataset, source in self.config["datasets"].items():
            for name in options.class_names(source):
                try:
                    files = options.class_files(self.config, dataset, name)
                    found[dataset, name] = PlannedClass(files, self.memory)
                except UserError:
                    if strict:
                        raise
        return found

    def _runs(self) -> list[Run]:
        config = self.config
        runs = [
            Run(experiment, *place, *draw)
            for place in self.classes
            for experiment in config["experiments"]
            for draw in self.draws(self.tasks(place))
        ]
        if self.classes and not runs:
            raise UserError("config: tasks: seg alone, and no class has masks for it")
        return runs

    def _check(self) -> None:
        """Fail now, not hours later, where a class cannot be trained."""
        for place, planned in self.classes.items():
            draws = [self.draw(place, seed) for seed in self.config["seeds"]]
            samples = [s for drawn in (planned.files.test, *draws) for s in drawn]
            check_files([*(s.path for s in samples), *planned.files.mask_files])
            options.class_prompts(self.config, *place)
            if "seg" in self.config["tasks"] and not planned.files.has_masks:
                name = "/".join(place)
                print(f"{name}: no masks, seg is skipped", file=sys.stderr)
        for name in self.config["predict"]:
            self.predicting_run(name), self.images_to_predict(name)

    def save_digests(self) -> None:
        """Remember the digests of files for the next plan."""
        write_memory(self.tree.digests, self.memory)

    def _once(self, make: Callable[..., T], *key: object) -> T:
        """`make` of a key, kept: many runs share the records of their inputs."""
        known = make.__name__, *key
        if known not in self._made:
            self._made[known] = make(*key)
        return self._made[known]

    # Support images

    def draw(self, place: Place, seed: int) -> list:
        """The support images of the largest draw; k shots are its first k."""
        train, shots = self.classes[place].files.train, max(self.config["shots"])
        return options.class_support(self.config, place, train, shots, seed)

    def support(self, place: Place, seed: int) -> list[list[str]]:
        """Names and digests of these images."""
        return self._once(self._support, place, seed)

    def _support(self, place: Place, seed: int) -> list[list[str]]:
        return self.classes[place].digests(self.draw(place, seed))

    # Cached files: paths and records

    def images(self, place: Place) -> Source:
        """The decoded test images."""
        return self._once(self._images, place)

    def _images(self, place: Place) -> Source:
        path = self._path(self.tree.test_images, place, size=self.size)
        content = self.classes[place].test_digest
        return Source(
            path, self._record("images", place, size=self.size, images=content)
        )

    def support_images(self, place: Place, seed: int) -> Source:
        """The decoded support images of a seed."""
        keys = {"seed": seed, "size": self.size}
        path = self._path(self.tree.support_images, place, **keys)
        images = self.support(place, seed)
        return Source(path, self._record("support", place, **keys, images=images))

    def masks(self, place: Place) -> Source:
        """The decoded masks of the test images."""
        return self._once(self._masks, place)

    def _masks(self, place: Place) -> Source:
        keys, planned = {"resolution": self.config["resolution"]}, self.classes[place]
        content = {"images": planned.test_digest, "masks": planned.mask_digest}
        path = self._path(self.tree.masks, place, **keys)
        return Source(path, self._record("masks", place, **keys, **content))

    def prompts(self, place: Place) -> Source:
        """The token numbers of a class's words."""
        return self._once(self._prompts, place)

    def _prompts(self, place: Place) -> Source:
        words = options.class_prompts(self.config, *place)
        path = self._path(self.tree.prompts, place)
        return Source(path, self._record("prompts", place, **words))

    def tower(self, part: str) -> Source:
        """A tower of the backbone, `vision` or `text`."""
        path = fill(getattr(self.tree, part), backbone=self.backbone)
        return Source(path, record("backbone", backbone=self.backbone, part=part))

    def features(self, experiment: str, place: Place) -> Source:
        """The features of the test images that an experiment reads."""
        readout = options.experiment_readout(self.config, experiment)
        return self._once(self._features, readout["name"], place, experiment)

    def _features(self, readout: str, place: Place, experiment: str) -> Source:
        content = self.classes[place].test_digest
        keys = self._feature_keys(experiment) | {"images": content}
        path = self._feature_path(self.tree.test_features, readout, place)
        return Source(path, self._record("features", place, **keys))

    def support_features(self, experiment: str, place: Place, seed: int) -> Source:
        """The features of the support images of a seed."""
        readout = options.experiment_readout(self.config, experiment)
        return self._once(
            self._support_features, readout["name"], place, seed, experiment
        )

    def _support_features(
        self, readout: str, place: Place, seed: int, experiment: str
    ) -> Source:
        keys = self._feature_keys(experiment) | {"images": self.support(place, seed)}
        pattern = fill(self.tree.support_features, seed=seed)
        path = self._feature_path(pattern, readout, place)
        return Source(path, self._record("features", place, **keys))

    def _feature_path(self, pattern: str, readout: str, place: Place) -> str:
        return self._path(pattern, place, backbone=self.backbone, readout=readout)

    def _feature_keys(self, experiment: str) -> dict:
        source = {"tower": identity(self.tower("vision").record)}
        source |= {"images": stage_code("images"), "size": self.size}
        return {
            "backbone": self.backbone,
            "readout": options.experiment_readout(self.config, experiment),
            "precision": self.config["precision"],
            "device": self.config["device"],
            "made_from": digest_of(source),
        }

    def _path(self, pattern: str, place: Place, **keys: object) -> str:
        return fill(pattern, dataset=place[0], class_name=place[1], **keys)

    def _record(self, stage: str, place: Place, **keys: object) -> dict:
        return record(stage, **{"dataset": place[0], "class": place[1], **keys})

    def reader(self, readout: str) -> str:
        """An experiment that reads these features."""
        return self._once(self._readers)[readout]

    def _readers(self) -> dict[str, str]:
        names = self.config["experiments"]
        return {options.experiment_readout(self.config, n)["name"]: n for n in names}

    # Runs

    def tasks(self, place: Place) -> list[str]:
        """The tasks of a class."""
        return options.class_tasks(self.config, self.classes[place].files)

    def draws(self, tasks: list[str]) -> list[tuple[str, int, int]]:
        """(task, shots, seed) of each run of an experiment and class."""
        return [*product(tasks, self.config["shots"], self.config["seeds"])]

    def is_planned(self, run: Run) -> bool:
        """Whether a run is one of the plan."""
        return run in self._once(self._run_set)

    def _run_set(self) -> set[Run]:
        return set(self.runs)

    def run(self, run: Run) -> dict:
        """The record of a run."""
        return self._once(self._run, run)

    def _run(self, run: Run) -> dict:
        place, known = (run.dataset, run.class_name), self._inputs(run)
        support = self.support(place, run.seed)[: run.shots]
        drawn = self.support_features(run.experiment, place, run.seed)
        made_from = {
            name: identity(made.record) for name, made in known.items() if made
        }
        made_from["support"] = identity(drawn.record, without=("images",))
        settings = options.run_settings(self.config, run)
        keys = {
            name: x for name, x in settings.items() if name not in ("stage", "code")
        }
        keys |= {"backbone": self.backbone, "support": support}
        return record("run", settings["code"], **keys, made_from=made_from)

    def _inputs(self, run: Run) -> dict[str, Source | None]:
        """Cached files that a run reads, beside those of its support images."""
        place = run.dataset, run.class_name
        reads_text = options.experiment_method(self.config, run.experiment).reads_text
        return {
            "test": self.features(run.experiment, place),
            "text": self.tower("text") if reads_text else None,
            "prompts": self.prompts(place) if reads_text else None,
            "masks": self.masks(place) if run.task == "seg" else None,
        }

    def run_job(self, runs: list[Run]) -> RunJob:
        """What a job of these runs, of one experiment and class, makes from what."""
        first, place = runs[0], (runs[0].dataset, runs[0].class_name)
        inputs = {}
        for run in runs:  # masks, where one of them needs any
            inputs |= {name: x for name, x in self._inputs(run).items() if x}
        support = {run.seed: self._any_support(first, run.seed) for run in runs}
        folders = [run_path(self.tree.run, run) for run in runs]
        optional = {name: inputs.get(name) for name in ("text", "prompts", "masks")}
        records = [self.run(run) for run in runs]
        return RunJob(folders, records, inputs["test"], support, **optional)

    def _any_support(self, run: Run, seed: int) -> Source:
        """Features of support images, whichever: a run checks those that it needs."""
        place = run.dataset, run.class_name
        path, made = self.support_features(run.experiment, place, seed)
        return Source(path, {n: value for n, value in made.items() if n != "images"})

    def embeddings(self, experiment: str, place: Place) -> list[Embedding]:
        """What is to be embedded of a class for an experiment."""
        support = [
            Embedding(
                self.support_images(place, seed),
                self.support_features(experiment, place, seed),
            )
            for seed in self.config["seeds"]
        ]
        test = Embedding(self.images(place), self.features(experiment, place))
        return [test, *support]

    def class_runs(self, experiment: str, place: Place) -> list[Run]:
        """The runs of an experiment and class."""
        return self._once(self._class_runs)[experiment, place]

    def _class_runs(self) -> dict[tuple[str, Place], list[Run]]:
        found = {}
        for run in self.runs:
            key = run.experiment, (run.dataset, run.class_name)
            found.setdefault(key, []).append(run)
        return found

    def one_run_per_job(self, experiment: str) -> bool:
        """Whether each run of an experiment is a job of its own."""
        choice = self.config["runs_per_job"]
        if choice != "auto":
            return choice == "one"
        trains = options.experiment_method(self.config, experiment).trains
        return trains and self.config["device"] == "cpu"

    # What is there as planned

    def has_run(self, run: Run) -> bool:
        """Whether a run is there as planned; its arrays are not read."""
        return self._once(self._has_run, run)

    def _has_run(self, run: Run) -> bool:
        try:
            found = read_record(run_path(self.tree.metrics, run))["settings"]
        except UserError:
            return False
        return is_same(found, self.run(run))

    def has_features(self, experiment: str, place: Place) -> bool:
        """Whether all features of an experiment and class are there as planned."""
        wanted = self.embeddings(experiment, place)
        return all(has_record(*embedding.features) for embedding in wanted)

    # Panels and predictions

    def panels(self, run: Run) -> dict:
        """The record of a run's panels."""
        images, masks = self._shown((run.dataset, run.class_name))
        keys = {"images": identity(images.record), "run": self.run(run)}
        return record("panels", **keys, masks=masks and identity(masks.record))

    def _shown(self, place: Place) -> tuple[Source, Source | None]:
        """Cached images and masks of a class that panels show."""
        has_masks = self.classes[place].files.has_masks
        return self.images(place), self.masks(place) if has_masks else None

    def panel_job(self, experiment: str, place: Place) -> dict:
        """What a job that draws the panels of a class makes from what."""
        runs, (images, masks) = self.class_runs(experiment, place), self._shown(place)
        paths = {
            name: [run_path(getattr(self.tree, pattern), run) for run in runs]
            for name, pattern in (("folders", "panels"), ("scores", "scores"))
        }
        records = [self.panels(run) for run in runs]
        return {**paths, "records": records, "images": images, "masks": masks}

    def shown_files(self, place: Place) -> list[str]:
        """Paths of the cached images and masks of a class that panels show."""
        return [source.path for source in self._shown(place) if source]

    def has_panels(self, run: Run) -> bool:
        """Whether the panels of a run are there as planned."""
        return self._has(run_path(self.tree.panels_record, run), self.panels(run))

    def _has(self, path: str, planned: dict) -> bool:
        try:
            return is_same(read_record(path), planned)
        except UserError:
            return False

    def predicting_run(self, name: str) -> Run:
        """The run that an entry of `predict` names."""
        wanted = self.config["predict"][name]["run"]
        known = {RUN.format(**r._asdict()).removeprefix("runs/"): r for r in self.runs}
        if wanted not in known:
            close = ", ".join(difflib.get_close_matches(wanted, known, cutoff=0))
            raise UserError(
                f"config: predict.{name}.run: no such run in this configuration; close "
                f"to it: {close}"
            )
        return known[wanted]

    def images_to_predict(self, name: str) -> dict[str, Path]:
        """Image files that an entry of `predict` names, by their names there."""
        return self._once(self._images_to_predict, name)

    def _images_to_predict(self, name: str) -> dict[str, Path]:
        try:
            return find_images([self.config["predict"][name]["images"]])
        except UserError as error:
            raise UserError(f"config: predict.{name}.images: {error}") from None

    def prediction(self, name: str) -> dict:
        """The record of an entry of `predict`."""
        images = self.images_to_predict(name)
        # A file that cannot be read stops nothing: its row of the table says so.
        readable = [path for path in images.values() if os.access(path, os.R_OK)]
        known = file_digests(readable, self.memory)
        content = digest_of({image: known.get(path) for image, path in images.items()})
        run = self.run(self.predicting_run(name))
        return record("predictions", images=content, run=run)

    def has_prediction(self, name: str) -> bool:
        """Whether an entry of `predict` is there as planned."""
        path = fill(self.tree.prediction_record, prediction=name)
        return self._has(path, self.prediction(name))

    def detector_files(self, name: str) -> list[str]:
        """Cached files that the detector of an entry of `predict` is made of."""
        run = self.predicting_run(name)
        place = run.dataset, run.class_name
        sources = (
            self.tower("vision"),
            self.support_features(run.experiment, place, run.seed),
            self.support_images(place, run.seed),
        )
        return [source.path for source in sources]

    # Tables and pages

    def order(self) -> dict[str, list[str]]:
        """Names in order: of the `experiments`, and of the `classes` of each data set."""
        datasets = self.config["datasets"]
        order = {d: [name for x, name in self.classes if x == d] for d in datasets}
        return {"experiments": list(self.config["experiments"]), "classes": order}

    def table_names(self) -> list[str]:
        """Names of the tables that people read."""
        own = sorted({f"{run.dataset}_{run.task}" for run in self.runs})
        several = len(self.config["experiments"]) > 1
        return [*own, "components", *(["comparison"] if several else [])]

    def pages(self) -> list[str]:
        """Paths of the report's pages, without suffix."""
        pairs = dict.fromkeys((run.dataset, run.experiment) for run in self.runs)
        kinds = ["history", "examples"] + ["scores"] * ("cls" in self.config["tasks"])
        return [
            *(f"{dataset}/overview" for dataset in dict.fromkeys(d for d, _ in pairs)),
            *(f"{dataset}/{name}/{kind}" for dataset, name in pairs for kind in kinds),
            *(["times", "settings"] if self.runs else []),
        ]

    def report(self) -> dict:
        """The record of the pages."""
        return self._once(self._report)

    def _report(self) -> dict:
        runs = digest_of([identity(self.run(run)) for run in self.runs])
        images = [identity(self.images(place).record) for place in self.classes]
        return record("report", runs=runs, images=images, order=self.order())

    def has_report(self) -> bool:
        """Whether the pages are there as planned."""
        return self._has(self.tree.report_record, self.report())

    def shown_of_all(self) -> list[str]:
        """Cached test images, and masks where pixels are evaluated, of all classes."""
        sources = [self.images(place) for place in self.classes]
        sources += [self.masks(p) for p in self.classes if "seg" in self.tasks(p)]
        return [source.path for source in sources]

    # Status

    def planned(self) -> Planned:
        """Runs, their methods, and the size of the features that they read."""
        experiments = self.config["experiments"]
        features = {
            work.features.path: self._bytes(work)
            for place in self.classes
            for name in experiments
            for work in self.embeddings(name, place)
        }
        return Planned(
            {run_path(self.tree.metrics, run): run for run in self.runs},
            {name: options["method"] for name, options in experiments.items()},
            features,
        )

    def _bytes(self, work: Embedding) -> int:
        """Bytes of the features of a set of images, float32."""
        images = work.images.record
        place = images["dataset"], images["class"]
        test = images["stage"] == "images"
        count = len(self.classes[place].files.test) if test else len(images["images"])
        return 4 * count * feature_numbers(self.config["backbone"])
