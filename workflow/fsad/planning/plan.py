"""The plan of a configuration: jobs, their files, and the records of these.

Everything that an artefact depends on is known while planning: digests of images,
masks, weights and code, options and words. They stand in its record, which decides
whether an artefact on disk is as planned.
"""

import difflib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from itertools import product
from os.path import exists
from pathlib import Path

from fsad.artifacts.content import digest_of
from fsad.artifacts.digests import check_files, file_digests, read_memory, write_memory
from fsad.artifacts.files import has_record, read_record
from fsad.artifacts.paths import (
    PREDICTED,
    RECORD,
    RUN,
    Run,
    fill,
    results_tree,
    run_path,
)
from fsad.artifacts.sources import Embedding, RunJob, Source
from fsad.artifacts.stages import identity, is_same, record, stage_code
from fsad.backbones import spec
from fsad.backbones.readout import Readout, described
from fsad.data.augment import Augment
from fsad.data.decode import limit_pixels
from fsad.data.layouts import ClassFiles, Sample, find_images, root_notes
from fsad.data.tiles import spans
from fsad.data.views import View
from fsad.errors import UserError
from fsad.jobs.status import Planned
from fsad.planning import options

Place = tuple[str, str]  # data set and class
AUTO_BYTES = 4_000_000  # of an image, up to which `auto` keeps features
WINDOWS_TIME = 12  # of the passes of an image and its windows of 2 and 3 patches


def kept(make):
    """A method whose result is kept for its arguments: runs share most inputs."""

    @wraps(make)
    def get(self, *key):
        known = make.__name__, *key
        if known not in self._kept:
            self._kept[known] = make(self, *key)
        return self._kept[known]

    return get


def _is_made(path: str, planned: Mapping, *outputs: str) -> bool:
    """Whether a JSON record is the planned one, and the outputs are there."""
    try:
        found = read_record(path)
    except UserError:
        return False
    return is_same(found.get("settings", found), planned) and all(map(exists, outputs))


class Plan:
    """The plan of a configuration; `config` is completed, `tree` are its paths."""

    def __init__(self, config: Mapping, strict: bool = True):
        """Raises UserError if the configuration, or a class of it, is not as it should
        be. strict: without, classes that cannot be listed are left out."""
        self._kept: dict[tuple, object] = {}
        self.config = options.complete(config)
        self.tree = results_tree(self.config["results"])
        self.memory = read_memory(self.tree.digests)
        self.backbones = dict(map(self._backbone, self.config["backbones"].items()))
        limit_pixels(self.config["max_megapixels"])
        self.classes = self._listed(strict)
        self.config = options.with_shapes(self.config, self.classes)
        self.runs = [
            Run(experiment, *place, *draw)
            for place in self.classes
            for experiment in self.config["experiments"]
            for draw in self.draws(self.tasks(place), self.has_zero_shots(experiment))
        ]
        if strict:
            self._check()

    def _backbone(self, item: tuple[str, Mapping]) -> tuple[str, str]:
        """Name of a backbone in the configuration, and that of its folder."""
        name, backbone = item
        with spec.named_backbone(name):
            spec.check_backbone(backbone, self.memory)
            return name, spec.backbone_name(backbone, self.memory)

    def _listed(self, strict: bool) -> dict[Place, ClassFiles]:
        found = {}
        for dataset, source in self.config["datasets"].items():
            for name in options.class_names(source):
                try:
                    files = options.class_files(self.config, dataset, name)
                    found[dataset, name] = files
                except UserError:
                    if strict:
                        raise
        return found

    def _check(self) -> None:
        """Fail now, not hours later, where a class cannot be trained; list files that
        are not read."""
        for place, files in self.classes.items():
            draws = [self.draw(place, seed) for seed in self.config["seeds"]]
            samples = [s for drawn in (files.test, *draws) for s in drawn]
            check_files([*(s.path for s in samples), *files.mask_files])
            options.class_prompts(self.config, *place)
            options.class_region(self.config, *place, files.train[0].path)
        for note in self._notes():
            print(note, file=sys.stderr)
        if self.classes and not self.runs:
            raise UserError("config: tasks: seg alone, and no class has masks for it")
        for name in self.config["predict"]:
            self.predicting_run(name), self.images_to_predict(name)
        self._check_disk()

    def _check_disk(self) -> None:
        """Tell the disk that features take, and raise UserError if less is free."""
        sizes = self.feature_sizes().items()
        needed = sum(size for path, size in sizes if not exists(path)) / 1e9
        place = Path(self.config["results"]).absolute()
        there = next(p for p in (place, *place.parents) if p.exists())
        free = shutil.disk_usage(there).free / 1e9
        if needed > free:
            raise UserError(
                f"config: results: features need {needed:.1f} GB, {there} has "
                f"{free:.1f} free; name another folder, or set `keep_features: false`"
            )
        if needed >= 0.1:
            text = f"features: {needed:.1f} GB to make, {free:.1f} GB are free"
            print(text, file=sys.stderr)

    def _notes(self) -> Iterator[str]:
        """What is left out, of each experiment, data set and class."""
        for name in filter(self.skips_shots, self._names()):
            method = self.config["experiments"][name]["method"]
            yield f"{name}: {method} needs support images, 0 of `shots` is skipped"
        for dataset, source in self.config["datasets"].items():
            names = [name for x, name in self.classes if x == dataset]
            notes = options.prompts_notes(self.config, dataset, names)
            if source["classes"] == "all":
                notes += root_notes(source["layout"], source["root"], names)
            yield from (f"{dataset}: {note}" for note in notes)
        for place, files in self.classes.items():
            skipped = "seg" in self.config["tasks"] and not files.has_seg
            notes = [*files.notes, *["no masks, seg is skipped"] * skipped]
            for note in [*notes, *self._tile_notes(place)]:
                yield f"{'/'.join(place)}: {note}"

    def _tile_notes(self, place: Place) -> Iterator[str]:
        """The tiles of a class, and what they cost."""
        for name in self._names():
            view, passes = self.readout(name, place).view, self.tiles(name, place)
            if view.is_tiled:
                cut = view.name.partition("_tiles")[2].replace("_", " and ")
                yield f"{name}: tiles {cut}, {passes} passes of the backbone an image"

    def save_digests(self) -> None:
        """Remember the digests of files for the next plan."""
        write_memory(self.tree.digests, self.memory)

    # Which runs there are

    def tasks(self, place: Place) -> list[str]:
        """The tasks of a class."""
        return options.class_tasks(self.config, self.classes[place])

    def complete_classes(self) -> list[str]:
        """Classes with the data for all tasks of the configuration, as the start of a
        path, DATASET/CLASS/."""
        wanted = self.config["tasks"]
        complete = (place for place in self.classes if self.tasks(place) == wanted)
        return [f"{dataset}/{name}/" for dataset, name in complete]

    def draws(self, tasks: list[str], zero: bool) -> list[tuple[str, int, int]]:
        """(task, shots, seed) of each run of an experiment and class.

        zero: with those of zero shots, if there are any. Nothing depends on their seed,
        so that there is one, of the first.
        """
        shots, seeds = self.config["shots"], self.config["seeds"]
        chosen = (k for k in shots if k > 0 or zero)
        pairs = [(k, seed) for k in chosen for seed in (seeds if k else seeds[:1])]
        return [(task, *pair) for task, pair in product(tasks, pairs)]

    def has_zero_shots(self, experiment: str) -> bool:
        """Whether an experiment has runs without support images."""
        return options.has_zero_shots(self.config, experiment)

    def skips_shots(self, experiment: str) -> bool:
        """Whether an experiment has no runs of one of the numbers of shots, 0."""
        return 0 in self.config["shots"] and not self.has_zero_shots(experiment)

    def planned_run(self, run: Run) -> Run:
        """The run, if it is one of the plan; else UserError."""
        if run not in self._run_set():
            path = run_path(self.tree.run, run)
            raise UserError(f"{path}: no run of this configuration")
        return run

    @kept
    def _run_set(self) -> set[Run]:
        return set(self.runs)

    def class_runs(self, experiment: str, place: Place) -> list[Run]:
        """The runs of an experiment and class."""
        draws = self.draws(self.tasks(place), self.has_zero_shots(experiment))
        return [Run(experiment, *place, *draw) for draw in draws]

    def one_run_per_job(self, experiment: str) -> bool:
        """Whether each run of an experiment is a job of its own."""
        choice = self.config["runs_per_job"]
        if choice != "auto":
            return choice == "one"
        trains = options.experiment_method(self.config, experiment).trains
        return trains and self.config["device"] == "cpu"

    # Digests of contents

    def draw(self, place: Place, seed: int) -> list[Sample]:
        """The support images of the largest draw; k shots are its first k."""
        train, shots = self.classes[place].train, self.largest_draw()
        return options.class_support(self.config, place, train, shots, seed)

    def largest_draw(self) -> int:
        """Number of support images that are drawn.

        There is one at zero shots too: its size and region are those of the class.
        """
        return max(1, *self.config["shots"])

    @kept
    def support(self, place: Place, seed: int) -> list[list[str]]:
        """Names and digests of these images."""
        samples = self.draw(place, seed)
        known = file_digests([sample.path for sample in samples], self.memory)
        return [[sample.name, known[sample.path]] for sample in samples]

    @kept
    def test_digest(self, place: Place) -> str:
        """Digest of the test images: their names, labels and contents."""
        samples = self.classes[place].test
        known = file_digests([sample.path for sample in samples], self.memory)
        return digest_of([(s.name, s.label, known[s.path]) for s in samples])

    @kept
    def region(self, place: Place) -> str | None:
        """Digest of the region of interest of a class, if it has one."""
        path = options.class_override(self.config, *place).get("roi")
        if path is None:
            return None
        return file_digests([Path(path)], self.memory)[Path(path)]

    def mask_digest(self, place: Place) -> str:
        """Digest of the masks: the images they belong to, and their contents."""
        files = self.classes[place]
        known = file_digests(files.mask_files, self.memory)
        return digest_of([(s.name, [known[m] for m in s.masks]) for s in files.test])

    # Cached files and their records

    def _source(self, pattern: str, stage: str, place: Place, **keys) -> Source:
        """A file of a class; path and record share the keys that stand in the path."""
        dataset, name = place
        path = fill(pattern, dataset=dataset, class_name=name, **keys)
        return Source(path, record(stage, dataset=dataset, **{"class": name}, **keys))

    @kept
    def images(self, place: Place, view: View) -> Source:
        """The decoded test images."""
        pattern = fill(self.tree.test_images, view=view.name)
        keys = {"view": view._asdict(), "images": self.test_digest(place)}
        keys |= {"region": self.region(place)}
        return self._source(pattern, "images", place, **keys)

    @kept
    def support_images(
        self, place: Place, seed: int, view: View, augment: Augment
    ) -> Source:
        """The decoded support images of a seed, and copies of them."""
        pattern = fill(self.tree.support_images, view=f"{view.name}{augment.name}")
        keys = {"view": view._asdict(), "augment": augment._asdict()}
        keys |= {"seed": seed, "images": self.support(place, seed)}
        keys |= {"region": self.region(place)}
        return self._source(pattern, "support", place, **keys)

    def all_support_images(self, place: Place) -> list[Source]:
        """The decoded support images of all seeds, and copies, as experiments read."""
        keys = product(self.support_views(), self.config["seeds"])
        return [self.support_images(place, seed, *views) for views, seed in keys]

    @kept
    def views(self) -> list[View]:
        """Views of whole test images, which experiments read or pages show."""
        return [*dict.fromkeys(view for view, _ in self.support_views())]

    @kept
    def support_views(self) -> list[tuple[View, Augment]]:
        """Views of whole support images, and copies, that experiments read."""
        readouts = (self.readout(*key) for key in product(self._names(), self.classes))
        return [*dict.fromkeys((x.view.of_whole(), x.augment) for x in readouts)]

    def tiled_file(self, place: Place, path: str) -> Source:
        """The cached tiles of test images or support images in a file of a class."""
        return self._tiled_files(place)[path]

    @kept
    def _tiled_files(self, place: Place) -> dict[str, Source]:
        readouts = [self.readout(name, place) for name in self._names()]
        found = []
        for _, _, view, augment, _ in filter(lambda x: x.view.is_tiled, readouts):
            seeds = self.config["seeds"]
            found.append(self.images(place, view))
            found += [self.support_images(place, s, view, augment) for s in seeds]
        return {source.path: source for source in found}

    def view_names(self) -> list[str]:
        """Parts of the names of cached test images."""
        return [view.name for view in self.views()]

    def support_view_names(self) -> list[str]:
        """Parts of the names of cached support images."""
        return [f"{view.name}{augment.name}" for view, augment in self.support_views()]

    def _names(self) -> list[str]:
        return [*self.config["experiments"]]

    @kept
    def masks(self, place: Place) -> Source:
        """The decoded masks of the test images."""
        content = {"images": self.test_digest(place), "masks": self.mask_digest(place)}
        content |= {"region": self.region(place)}
        keys = {"resolution": self.config["resolution"], **content}
        return self._source(self.tree.masks, "masks", place, **keys)

    @kept
    def prompts(self, place: Place) -> Source:
        """The token numbers of a class's words."""
        words = options.class_prompts(self.config, *place)
        return self._source(self.tree.prompts, "prompts", place, **words)

    def towers(self, backbone: str) -> dict[str, Source]:
        """The towers of a backbone of the configuration, by their names."""
        reads = self.config["backbones"][backbone]["library"] == spec.OPEN_CLIP
        parts = ("vision", "text") if reads else ("vision",)
        return {part: self._tower(self.backbones[backbone], part) for part in parts}

    def _tower(self, folder: str, part: str) -> Source:
        path = fill(getattr(self.tree, part), backbone=folder)
        return Source(path, record("backbone", backbone=folder, part=part))

    def folder(self, experiment: str) -> str:
        """Name of the folder of an experiment's backbone."""
        return self.backbones[self.config["experiments"][experiment]["backbone"]]

    def vision(self, experiment: str) -> Source:
        """The vision tower of an experiment."""
        return self._tower(self.folder(experiment), "vision")

    @kept
    def readout(self, experiment: str, place: Place) -> Readout:
        """The features that an experiment reads of a class."""
        return options.experiment_readout(self.config, experiment, place)

    @kept
    def features(self, experiment: str, place: Place) -> Source:
        """The features of the test images that an experiment reads."""
        pattern, images = self.tree.test_features, self.test_digest(place)
        return self._features(pattern, experiment, place, images)

    @kept
    def support_features(self, experiment: str, place: Place, seed: int) -> Source:
        """The features of the support images of a seed."""
        pattern = fill(self.tree.support_features, seed=seed)
        images = self.support(place, seed)
        return self._features(pattern, experiment, place, images)

    def _features(self, pattern: str, experiment: str, place: Place, images) -> Source:
        readout = described(self.readout(experiment, place))
        folder = self.folder(experiment)
        source = {"tower": identity(self.vision(experiment).record)}
        source |= {"images": stage_code("images")}
        keys = {name: self.config[name] for name in ("precision", "device")}
        keys |= {"backbone": folder, "readout": readout}
        keys |= {"images": images, "made_from": digest_of(source)}
        keys |= {"region": self.region(place)}
        path = fill(pattern, readout=readout["name"], backbone=folder)
        return self._source(path, "features", place, **keys)

    def embeddings(self, experiment: str, place: Place) -> list[Embedding]:
        """The sets of images of a class to embed for an experiment."""
        seeds = self.config["seeds"]
        support = [self._support_embedding(experiment, place, seed) for seed in seeds]
        return [self._test_embedding(experiment, place), *support]

    def _test_embedding(self, experiment: str, place: Place) -> Embedding:
        images = self.images(place, self.readout(experiment, place).view)
        return Embedding(images, self.features(experiment, place))

    def _support_embedding(self, experiment: str, place: Place, seed: int) -> Embedding:
        _, _, view, augment, _ = self.readout(experiment, place)
        images = self.support_images(place, seed, view, augment)
        return Embedding(images, self.support_features(experiment, place, seed))

    @kept
    def readers(self, place: Place) -> dict[tuple[str, str], str]:
        """An experiment that reads features of a class, by folder of the backbone and
        readout."""
        return {(self.folder(n), self.readout(n, place).name): n for n in self._names()}

    # Runs

    @kept
    def run(self, run: Run) -> dict:
        """The record of a run."""
        known = self._inputs(run)
        place = run.dataset, run.class_name
        drawn = self.support_features(run.experiment, place, run.seed)
        made_from = {name: identity(x.record) for name, x in known.items()}
        made_from["support"] = identity(drawn.record, without=("images",))
        settings = options.run_settings(self.config, run)
        settings["support"] = self.support(place, run.seed)[: run.shots]
        backbone = self.folder(run.experiment)
        return record(**settings, backbone=backbone, made_from=made_from)

    def _inputs(self, run: Run) -> dict[str, Source]:
        """Cached files that a run reads, beside those of its support images."""
        place = run.dataset, run.class_name
        found = {"test": self.features(run.experiment, place)}
        if options.experiment_method(self.config, run.experiment).reads_text:
            text = self._tower(self.folder(run.experiment), "text")
            found |= {"text": text, "prompts": self.prompts(place)}
        return found | ({"masks": self.masks(place)} if run.task == "seg" else {})

    def run_job(self, runs: list[Run]) -> RunJob:
        """The job that makes these runs, of one experiment and class."""
        experiment, place = runs[0].experiment, (runs[0].dataset, runs[0].class_name)
        inputs = dict.fromkeys(("text", "prompts", "masks"))
        for run in runs:  # masks, where one of them needs any
            inputs |= self._inputs(run)
        inputs["test"] = self._test_embedding(experiment, place)
        inputs["vision"] = self.vision(experiment)
        support = {run.seed: self._any_support(run) for run in runs}
        folders = [run_path(self.tree.run, run) for run in runs]
        return RunJob(folders, [*map(self.run, runs)], support=support, **inputs)

    def run_files(self, runs: list[Run]) -> list[str]:
        """Files that the job of these runs reads."""
        job, run = self.run_job(runs), runs[0]
        kept = self.keeps_features(run.experiment, (run.dataset, run.class_name))
        return job._replace(stored=kept).inputs()

    def _any_support(self, run: Run) -> Embedding:
        """Support images and features, whichever: a run checks those that it needs."""
        place = run.dataset, run.class_name
        found = self._support_embedding(run.experiment, place, run.seed)
        records = (
            {n: x for n, x in made.items() if n != "images"} for _, made in found
        )
        paths = (path for path, _ in found)
        return Embedding(*map(Source, paths, records))

    def keeps_features(self, experiment: str, place: Place) -> bool:
        """Whether the features of a class for an experiment are kept in files."""
        choice = self.config["keep_features"]
        size, _ = self._image_bytes(experiment, place)
        # Those of a method that trains are read by many jobs.
        trains = options.experiment_method(self.config, experiment).trains
        limit = AUTO_BYTES * (self.tiles(experiment, place) if trains else 1)
        return choice is True or (choice == "auto" and size <= limit)

    @kept
    def _image_bytes(self, experiment: str, place: Place) -> tuple[int, int]:
        """Bytes of the features of a test image and of a support image; 0 where they
        are not known before."""
        backbone = options.experiment_backbone(self.config, experiment)
        readout = self.readout(experiment, place)
        tiles = self.tiles(experiment, place)
        sizes = spec.feature_bytes, spec.support_bytes
        return tuple(tiles * (size(backbone, readout) or 0) for size in sizes)

    @kept
    def tiles(self, experiment: str, place: Place) -> int:
        """Images that a backbone sees of each image of a class: tiles and the whole."""
        view = self.readout(experiment, place).view
        if not view.is_tiled:
            return 1
        dataset, name = place
        rows, columns = spans(self.config[options.SHAPES][dataset][name], view)
        return len(rows) * len(columns) + view.whole

    def passes(self, experiment: str, place: Place) -> int:
        """Time of a backbone for an image of a class, in that of one plain pass."""
        kind = self.readout(experiment, place).kind
        factor = WINDOWS_TIME if kind == "windows" else 1
        return factor * self.tiles(experiment, place)

    # What is there as planned

    @kept
    def has_run(self, run: Run) -> bool:
        """Whether a run is there as planned; its arrays are not read."""
        metrics, *others = self._run_files(run)
        return _is_made(metrics, self.run(run), *others)

    def lacks_files(self, run: Run) -> bool:
        """Whether a run has its metrics, but not all other files."""
        metrics, *others = map(exists, self._run_files(run))
        return metrics and not all(others)

    def _run_files(self, run: Run) -> list[str]:
        tree = self.tree
        patterns = tree.metrics, tree.model, tree.scores, tree.history
        return [run_path(pattern, run) for pattern in patterns]

    def has_features(self, experiment: str, place: Place) -> bool:
        """Whether all features of an experiment and class are there as planned."""
        wanted = self.embeddings(experiment, place)
        return all(has_record(*embedding.features) for embedding in wanted)

    # Panels and predictions

    def panels(self, run: Run) -> dict:
        """The record of a run's panels."""
        shown = self._shown(run.experiment, (run.dataset, run.class_name))
        images, *masks = (identity(source.record) for source in shown)
        return record("panels", images=images, masks=masks, run=self.run(run))

    def _shown(self, experiment: str, place: Place) -> list[Source]:
        """The images, and the masks of a class with any, that panels show."""
        masks = [self.masks(place)] if self.classes[place].has_masks else []
        view = self.readout(experiment, place).view.of_whole()
        return [self.images(place, view), *masks]

    def panel_job(self, experiment: str, place: Place) -> dict:
        """The job that draws the panels of a class."""
        runs = self.class_runs(experiment, place)
        paths = {
            name: [run_path(getattr(self.tree, pattern), run) for run in runs]
            for name, pattern in (("folders", "panels"), ("scores", "scores"))
        }
        images, *masks = self._shown(experiment, place)
        records = [*map(self.panels, runs)]
        shown = {"images": images, "masks": masks[0] if masks else None}
        return {**paths, **shown, "records": records}

    def shown_files(self, experiment: str, place: Place) -> list[str]:
        """Paths of the cached images and masks of a class that panels show."""
        return [source.path for source in self._shown(experiment, place)]

    def has_panels(self, run: Run) -> bool:
        """Whether the panels of a run are there as planned."""
        return _is_made(run_path(self.tree.panels_record, run), self.panels(run))

    def count_test_images(
        self, place: Place, weight: Callable[[str, Place], int]
    ) -> int:
        """Test images of a class, each as many times as the largest weight says.

        weight: of an experiment and class, such as `tiles`.
        """
        weights = [weight(name, place) for name in self.config["experiments"]]
        return max(weights) * len(self.classes[place].test)

    def count_images_to_predict(
        self, name: str, weight: Callable[[str, Place], int]
    ) -> int:
        """Images of an entry of `predict`, as `count_test_images` counts them."""
        run = self.predicting_run(name)
        count = weight(run.experiment, (run.dataset, run.class_name))
        return count * len(self.images_to_predict(name))

    def predicting_run(self, name: str) -> Run:
        """The run that an entry of `predict` names."""
        wanted = self.config["predict"][name]["run"]
        known = {run_path(RUN, run).removeprefix("runs/"): run for run in self.runs}
        if wanted not in known:
            close = ", ".join(difflib.get_close_matches(wanted, known, cutoff=0))
            raise UserError(
                f"config: predict.{name}.run: no such run in this configuration; close "
                f"to it: {close}"
            )
        return known[wanted]

    @kept
    def images_to_predict(self, name: str) -> dict[str, Path]:
        """Image files that an entry of `predict` names, by their names there."""
        path = self.config["predict"][name]["images"]
        try:
            if not exists(path):
                raise UserError(f"{path}: no such file or folder; correct the path")
            return find_images([path])
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
        folder = fill(self.tree.prediction, prediction=name)
        outputs = (f"{folder}/{output}" for output in PREDICTED)
        return _is_made(f"{folder}/{RECORD}", self.prediction(name), *outputs)

    def detector_files(self, name: str) -> list[str]:
        """Cached files that the detector of an entry of `predict` is made of."""
        run = self.predicting_run(name)
        place = run.dataset, run.class_name
        images, features = self._support_embedding(run.experiment, place, run.seed)
        kept = [features.path] if self.keeps_features(run.experiment, place) else []
        return [self.vision(run.experiment).path, images.path, *kept]

    # Tables, pages and status

    def order(self) -> dict:
        """Names in order: of `experiments`, and of the `classes` of each data set."""
        datasets = self.config["datasets"]
        classes = {d: [name for x, name in self.classes if x == d] for d in datasets}
        return {"experiments": [*self.config["experiments"]], "classes": classes}

    def table_names(self) -> list[str]:
        """Names of the tables that people read."""
        own = sorted({f"{run.dataset}_{run.task}" for run in self.runs})
        if not self._has_several():
            return [*own, "components"]
        methods = (f"{name}_methods" for name in self._datasets())
        return [*own, *methods, "components", "comparison"]

    def _has_several(self) -> bool:
        """Whether there are experiments to compare."""
        return len(self.config["experiments"]) > 1

    def _datasets(self) -> list[str]:
        """Data sets with runs."""
        return [*dict.fromkeys(run.dataset for run in self.runs)]

    def pages(self) -> list[str]:
        """Paths of the report's pages, without suffix."""
        pairs = dict.fromkeys((run.dataset, run.experiment) for run in self.runs)
        of_all = ["overview"] + ["methods"] * self._has_several()
        kinds = ["history", "examples"] + ["scores"] * ("cls" in self.config["tasks"])
        return [
            *(f"{name}/{kind}" for name in self._datasets() for kind in of_all),
            *(f"{dataset}/{name}/{kind}" for dataset, name in pairs for kind in kinds),
            *(["times", "settings"] if self.runs else []),
        ]

    @kept
    def report(self) -> dict:
        """The record of the pages."""
        runs = digest_of([identity(self.run(run)) for run in self.runs])
        shown = product(self.classes, self.views())
        images = [identity(self.images(*place).record) for place in shown]
        return record("report", runs=runs, images=images, order=self.order())

    def has_report(self) -> bool:
        """Whether the pages are there as planned."""
        pages = (f"{self.tree.report}/{page}.html" for page in self.pages())
        return _is_made(self.tree.report_record, self.report(), *pages)

    def shown_of_all(self) -> list[Source]:
        """Cached images, and masks where pixels are evaluated, of all classes."""
        masks = [self.masks(p) for p in self.classes if "seg" in self.tasks(p)]
        test = [self.images(*key) for key in product(self.classes, self.views())]
        support = [x for p in self.classes for x in self.all_support_images(p)]
        return [*test, *support, *masks]

    def report_of_jobs(self) -> dict:
        """What pages show of jobs: benchmarks, threads, and what is assumed."""
        keys = {"benchmarks": self.tree.benchmarks, "threads": self.config["threads"]}
        backbones = self.config["backbones"].items()
        notes = [
            f"backbones.{name}.{note}"
            for name, backbone in backbones
            for note in spec.assumptions(backbone)
        ]
        return keys | {"notes": notes}

    def planned(self) -> Planned:
        """Runs, their methods, and the bytes of the features that they read."""
        experiments = self.config["experiments"].items()
        methods = {name: experiment["method"] for name, experiment in experiments}
        runs = {run_path(self.tree.metrics, run): run for run in self.runs}
        return Planned(runs, methods, self.feature_sizes())

    def feature_sizes(self) -> dict[str, int]:
        """Bytes of the files of features, by path; without those not known before."""
        sizes, shots = {}, self.largest_draw()
        for name, place in product(self._names(), self.classes):
            if self.keeps_features(name, place):
                test, *support = self.embeddings(name, place)
                image, copies = self._image_bytes(name, place)
                sizes[test.features.path] = len(self.classes[place].test) * image
                sizes |= {drawn.features.path: shots * copies for drawn in support}
        return sizes
