"""Panels of test images, their masks and anomaly maps: the option `vis`."""

from collections.abc import Iterable

from fsad.artifacts.paths import Place, Run, run_path
from fsad.artifacts.sources import Source
from fsad.artifacts.stages import identity, record
from fsad.planning.plan import Plan, is_made


def panels_record(plan: Plan, run: Run) -> dict:
    """The record of a run's panels."""
    shown = _shown(plan, run.experiment, run.place)
    images, *masks = (identity(source.record) for source in shown)
    return record("panels", images=images, masks=masks, run=plan.run(run))


def _shown(plan: Plan, experiment: str, place: Place) -> list[Source]:
    """The images, and the masks of a class with any, that panels show."""
    masks = [plan.masks(place)] if plan.classes[place].has_masks else []
    view = plan.readout(experiment, place).view.of_whole()
    return [plan.images(place, view), *masks]


def panel_job(plan: Plan, experiment: str, place: Place) -> dict:
    """The job that draws the panels of a class."""
    runs = plan.class_runs(experiment, place)
    paths = {
        name: [run_path(getattr(plan.tree, pattern), run) for run in runs]
        for name, pattern in (("folders", "panels"), ("scores", "scores"))
    }
    images, *masks = _shown(plan, experiment, place)
    records = [panels_record(plan, run) for run in runs]
    shown = {"images": images, "masks": masks[0] if masks else None}
    return {**paths, **shown, "records": records}


def shown_files(plan: Plan, experiment: str, place: Place) -> list[str]:
    """Paths of the cached images and masks of a class that panels show."""
    return [source.path for source in _shown(plan, experiment, place)]


def unmade_panels(plan: Plan, runs: Iterable[Run]) -> list[str]:
    """Folders of the panels that are not there as planned, of these runs."""
    path = plan.tree.panels_record
    return [
        run_path(plan.tree.panels, run)
        for run in runs
        if not is_made(run_path(path, run), panels_record(plan, run))
    ]
