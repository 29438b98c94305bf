"""The plan of a configuration: runs, the files they are made from, and their records.

Everything that an artefact depends on is known while planning: digests of images,
masks, weights and code, options and words. They stand in its record, which decides
whether an artefact on disk is as planned.
"""

from collections.abc import Iterable, Mapping
from functools import wraps
from itertools import product
from os.path import exists
from pathlib import Path

from fsad.artifacts.content import digest_of
from fsad.artifacts.digests import file_digests, read_memory, write_memory
from fsad.artifacts.files import read_record
from fsad.artifacts.paths import Place, Run, fill, results_tree, run_path
from fsad.artifacts.sources import Embedding, RunJob, Source
from fsad.artifacts.stages import identity, is_same, record, stage_code
from fsad.backbones import spec
from fsad.backbones.readout import Readout, described
from fsad.data.augment import Augment
from fsad.data.decode import limit_pixels
from fsad.data.layouts import ClassFiles, Sample
from fsad.data.views import View
from fsad.errors import UserError
from fsad.planning import options


def kept(make):
    """A function of a plan, whose result it keeps: runs share most inputs."""

    @wraps(make)
    def get(plan, *key):
        known = make, *key
        if known not in plan._kept:
            plan._kept[known] = make(plan, *key)
        return plan._kept[known]

    return get


def is_made(path: str, planned: Mapping, *outputs: str) -> bool:
    """Whether a JSON record is the planned one, and the outputs are there."""
    try:
        found = read_record(path)
    except UserError:
        return False
    return is_same(found.get("settings", found), planned) and all(map(exists, outputs))


class Plan:
    """The plan of a configuration; `config` is completed, `tree` are its paths."""

    def __init__(self, config: Mapping, strict: bool = True):
        """Raises UserError if the configuration is wrong, or a class of it cannot be
        listed; strict: without, such a class is left out."""
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

    def all_images(self, place: Place) -> list[Source]:
        """The decoded whole images of a class: all views of test and support images."""
        return [*self.all_test_images(place), *self.all_support_images(place)]

    def all_test_images(self, place: Place) -> list[Source]:
        """The decoded whole test images of a class, of all views."""
        return [self.images(place, view) for view in self.views()]

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
        readouts = (self.readout(*key) for key in product(self.names(), self.classes))
        return [*dict.fromkeys((x.view.of_whole(), x.augment) for x in readouts)]

    def tiled_file(self, place: Place, path: str) -> Source:
        """The cached tiles of test images or support images in a file of a class."""
        return self._tiled_files(place)[path]

    @kept
    def _tiled_files(self, place: Place) -> dict[str, Source]:
        readouts = [self.readout(name, place) for name in self.names()]
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

    def names(self) -> list[str]:
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
        support = [self.support_embedding(experiment, place, seed) for seed in seeds]
        return [self._test_embedding(experiment, place), *support]

    def _test_embedding(self, experiment: str, place: Place) -> Embedding:
        images = self.images(place, self.readout(experiment, place).view)
        return Embedding(images, self.features(experiment, place))

    def support_embedding(self, experiment: str, place: Place, seed: int) -> Embedding:
        _, _, view, augment, _ = self.readout(experiment, place)
        images = self.support_images(place, seed, view, augment)
        return Embedding(images, self.support_features(experiment, place, seed))

    @kept
    def readers(self, place: Place) -> dict[tuple[str, str], str]:
        """An experiment that reads features of a class, by folder of the backbone and
        readout."""
        return {(self.folder(n), self.readout(n, place).name): n for n in self.names()}

    # Runs

    @kept
    def run(self, run: Run) -> dict:
        """The record of a run."""
        known = self._inputs(run)
        place = run.place
        drawn = self.support_features(run.experiment, place, run.seed)
        made_from = {name: identity(x.record) for name, x in known.items()}
        made_from["support"] = identity(drawn.record, without=("images",))
        settings = options.run_settings(self.config, run)
        settings["support"] = self.support(place, run.seed)[: run.shots]
        backbone = self.folder(run.experiment)
        return record(**settings, backbone=backbone, made_from=made_from)

    def _inputs(self, run: Run) -> dict[str, Source]:
        """Cached files that a run reads, beside those of its support images."""
        place = run.place
        found = {"test": self.features(run.experiment, place)}
        if options.experiment_method(self.config, run.experiment).reads_text:
            text = self._tower(self.folder(run.experiment), "text")
            found |= {"text": text, "prompts": self.prompts(place)}
        return found | ({"masks": self.masks(place)} if run.task == "seg" else {})

    def run_job(self, runs: list[Run]) -> RunJob:
        """The job that makes these runs, of one experiment and class."""
        experiment, place = runs[0].experiment, runs[0].place
        inputs = dict.fromkeys(("text", "prompts", "masks"))
        for run in runs:  # masks, where one of them needs any
            inputs |= self._inputs(run)
        inputs["test"] = self._test_embedding(experiment, place)
        inputs["vision"] = self.vision(experiment)
        support = {run.seed: self._any_support(run) for run in runs}
        folders = [run_path(self.tree.run, run) for run in runs]
        return RunJob(folders, [*map(self.run, runs)], support=support, **inputs)

    def _any_support(self, run: Run) -> Embedding:
        """Support images and features, whichever: a run checks those that it needs."""
        place = run.place
        found = self.support_embedding(run.experiment, place, run.seed)
        records = (
            {n: x for n, x in made.items() if n != "images"} for _, made in found
        )
        paths = (path for path, _ in found)
        return Embedding(*map(Source, paths, records))

    # What is there as planned

    @kept
    def has_run(self, run: Run) -> bool:
        """Whether a run is there as planned; its arrays are not read."""
        tree = self.tree
        patterns = tree.metrics, tree.model, tree.scores, tree.history
        metrics, *others = (run_path(pattern, run) for pattern in patterns)
        return is_made(metrics, self.run(run), *others)

    def unmade_runs(self, runs: Iterable[Run]) -> list[str]:
        """Metrics of the runs that are not there as planned."""
        unmade = (run for run in runs if not self.has_run(run))
        return [run_path(self.tree.metrics, run) for run in unmade]
