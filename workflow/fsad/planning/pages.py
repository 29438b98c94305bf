"""Tables and pages: their names, order and record, and what pages show."""

from itertools import chain

from fsad.artifacts.content import digest_of
from fsad.artifacts.sources import Source
from fsad.artifacts.stages import identity, record
from fsad.backbones import spec
from fsad.planning.plan import Plan, is_made, kept


def order(plan: Plan) -> dict:
    """Names in order: of `experiments`, and of the `classes` of each data set."""
    datasets = plan.config["datasets"]
    classes = {d: [name for x, name in plan.classes if x == d] for d in datasets}
    return {"experiments": [*plan.config["experiments"]], "classes": classes}


def table_names(plan: Plan) -> list[str]:
    """Names of the tables that people read."""
    own = sorted({f"{run.dataset}_{run.task}" for run in plan.runs})
    if not _has_several(plan):
        return [*own, "components"]
    methods = (f"{name}_methods" for name in _datasets(plan))
    return [*own, *methods, "components", "comparison"]


def _has_several(plan: Plan) -> bool:
    """Whether there are experiments to compare."""
    return len(plan.config["experiments"]) > 1


def _datasets(plan: Plan) -> list[str]:
    """Data sets with runs."""
    return [*dict.fromkeys(run.dataset for run in plan.runs)]


def page_names(plan: Plan) -> list[str]:
    """Paths of the report's pages, without suffix."""
    pairs = dict.fromkeys((run.dataset, run.experiment) for run in plan.runs)
    of_all = ["overview"] + ["methods"] * _has_several(plan)
    kinds = ["history", "examples"] + ["scores"] * ("cls" in plan.config["tasks"])
    return [
        *(f"{name}/{kind}" for name in _datasets(plan) for kind in of_all),
        *(f"{dataset}/{name}/{kind}" for dataset, name in pairs for kind in kinds),
        *(["times", "settings"] if plan.runs else []),
    ]


@kept
def report_record(plan: Plan) -> dict:
    """The record of the pages."""
    runs = digest_of([identity(plan.run(run)) for run in plan.runs])
    shown = chain.from_iterable(map(plan.all_test_images, plan.classes))
    images = [identity(source.record) for source in shown]
    return record("report", runs=runs, images=images, order=order(plan))


def unmade_pages(plan: Plan) -> list[str]:
    """Files of the pages, unless all are there as planned."""
    pages = [f"{plan.tree.report}/{page}.html" for page in page_names(plan)]
    made = is_made(plan.tree.report_record, report_record(plan), *pages)
    return [] if made else pages


def shown_of_all(plan: Plan) -> list[Source]:
    """Cached images, and masks where pixels are evaluated, of all classes."""
    masks = [plan.masks(p) for p in plan.classes if "seg" in plan.tasks(p)]
    return [*(x for p in plan.classes for x in plan.all_images(p)), *masks]


def report_of_jobs(plan: Plan) -> dict:
    """What pages show of jobs: benchmarks, threads, and what is assumed."""
    keys = {"benchmarks": plan.tree.benchmarks, "threads": plan.config["threads"]}
    backbones = plan.config["backbones"].items()
    notes = [
        f"backbones.{name}.{note}"
        for name, backbone in backbones
        for note in spec.assumptions(backbone)
    ]
    return keys | {"notes": notes}
