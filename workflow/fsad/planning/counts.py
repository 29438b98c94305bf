"""Images and tiles that jobs work on, which their memory and time follow."""

from collections.abc import Callable

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


def count_test_images(plan: Plan, place: Place, weight: Weight) -> int:
    """Test images of a class, each as many times as the largest weight says."""
    weights = [weight(plan, name, place) for name in plan.config["experiments"]]
    return max(weights) * len(plan.classes[place].test)


def count_images_to_predict(plan: Plan, name: str, weight: Weight) -> int:
    """Images of an entry of `predict`, as `count_test_images` counts them."""
    run = run_of(plan, name)
    count = weight(plan, run.experiment, run.place)
    return count * len(images_to_predict(plan, name))
