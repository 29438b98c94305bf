"""Images and tiles that jobs work on, which their memory and time follow."""

from collections.abc import Callable, Mapping

from fsad.artifacts.paths import Place
from fsad.data.tiles import spans
from fsad.planning import options
from fsad.planning.plan import Plan, kept
from fsad.planning.predictions import images_to_predict, run_of

Weight = Callable[[Plan, str, Place], int]  # of an experiment and class, as `tiles`
WINDOWS_TIME = 12  # of the passes of an image and its windows of 2 and 3 patches


@kept
def tiles(plan: Plan, experiment: str, place: Place) -> int:
    """Images that a backbone sees of each image of a class: tiles and the whole."""
    view = plan.readout(experiment, place).view
    if not view.is_tiled:
        return 1
    dataset, name = place
    rows, columns = spans(plan.config[options.SHAPES][dataset][name], view)
    return len(rows) * len(columns) + view.whole


def passes(plan: Plan, experiment: str, place: Place) -> int:
    """Time of a backbone for an image of a class, in that of one plain pass."""
    kind = plan.readout(experiment, place).kind
    factor = WINDOWS_TIME if kind == "windows" else 1
    return factor * tiles(plan, experiment, place)


def count_images(plan: Plan, keys: Mapping[str, str], weight: Weight) -> int:
    """Images that a job works on, each as many times as the largest weight says.

    keys: wildcards of the job: `prediction`, whose images are those of an entry of
    `predict`, or `dataset` and `class_name`, of test images; 0 without either.
    """
    if "prediction" in keys:
        run = run_of(plan, keys["prediction"])
        count = weight(plan, run.experiment, run.place)
        return count * len(images_to_predict(plan, keys["prediction"]))
    if "class_name" not in keys:
        return 0
    place = keys["dataset"], keys["class_name"]
    weights = [weight(plan, name, place) for name in plan.names()]
    return max(weights) * len(plan.classes[place].test)
