"""Files on the disk: cached ones that are there as planned, features that are kept and
their bytes, and the files that jobs then read."""

from collections.abc import Iterable
from itertools import product

from fsad.artifacts.files import has_record
from fsad.artifacts.paths import Place, Run, run_path
from fsad.artifacts.sources import Source
from fsad.backbones import spec
from fsad.jobs.status import Planned
from fsad.planning import options
from fsad.planning.counts import tiles
from fsad.planning.plan import Plan, kept
from fsad.planning.predictions import run_of

AUTO_BYTES = 4_000_000  # of an image, up to which `auto` keeps features


def unmade(sources: Iterable[Source]) -> list[str]:
    """Paths of the cached files that are not there as planned."""
    return [source.path for source in sources if not has_record(*source)]


def keeps_features(plan: Plan, experiment: str, place: Place) -> bool:
    """Whether the features of a class for an experiment are kept in files."""
    choice = plan.config["keep_features"]
    size, _ = _image_bytes(plan, experiment, place)
    # Those of a method that trains are read by many jobs.
    trains = options.experiment_method(plan.config, experiment).trains
    limit = AUTO_BYTES * (tiles(plan, experiment, place) if trains else 1)
    return choice is True or (choice == "auto" and size <= limit)


@kept
def _image_bytes(plan: Plan, experiment: str, place: Place) -> tuple[int, int]:
    """Bytes of the features of a test image and of a support image; 0 where they
    are not known before."""
    backbone = options.experiment_backbone(plan.config, experiment)
    readout = plan.readout(experiment, place)
    count = tiles(plan, experiment, place)
    sizes = spec.feature_bytes, spec.support_bytes
    return tuple(count * (size(backbone, readout) or 0) for size in sizes)


def feature_sizes(plan: Plan) -> dict[str, int]:
    """Bytes of the files of features, by path; without those not known before."""
    sizes, shots = {}, plan.largest_draw()
    for name, place in product(plan.names(), plan.classes):
        if keeps_features(plan, name, place):
            test, *support = plan.embeddings(name, place)
            image, copies = _image_bytes(plan, name, place)
            sizes[test.features.path] = len(plan.classes[place].test) * image
            sizes |= {drawn.features.path: shots * copies for drawn in support}
    return sizes


def run_files(plan: Plan, runs: list[Run]) -> list[str]:
    """Files that the job of these runs reads."""
    job, run = plan.run_job(runs), runs[0]
    kept = keeps_features(plan, run.experiment, run.place)
    return job._replace(stored=kept).inputs()


def detector_files(plan: Plan, name: str) -> list[str]:
    """Cached files that the detector of an entry of `predict` is made of."""
    run = run_of(plan, name)
    place = run.place
    images, features = plan.support_embedding(run.experiment, place, run.seed)
    kept = [features.path] if keeps_features(plan, run.experiment, place) else []
    return [plan.vision(run.experiment).path, images.path, *kept]


def planned(plan: Plan) -> Planned:
    """Runs, their methods, and the bytes of the features that they read."""
    experiments = plan.config["experiments"].items()
    methods = {name: experiment["method"] for name, experiment in experiments}
    runs = {run_path(plan.tree.metrics, run): run for run in plan.runs}
    return Planned(runs, methods, feature_sizes(plan))
