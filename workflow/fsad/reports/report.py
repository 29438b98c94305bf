"""All pages of the report."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from fsad.artifacts.files import read_npz
from fsad.artifacts.paths import HISTORY, SCORES, Run, parse_run
from fsad.artifacts.sources import Source
from fsad.reports.examples import write_examples
from fsad.reports.figure_pages import (
    write_history,
    write_methods,
    write_overview,
    write_scores,
)
from fsad.reports.runtime_pages import write_settings, write_times
from fsad.reports.tables import read_runs


def write_report(
    folder: str | Path,
    runs: Mapping[str, Mapping],
    order: Mapping,
    cached: Sequence[Source],
    jobs: Mapping,
) -> None:
    """Write every page of the report into `folder`, as .html.

    The pages are DATASET/overview and, with several experiments, DATASET/methods,
    DATASET/EXPERIMENT/{history,scores,examples}, times and settings. runs, order: see
    `tables.write_tables`. cached: files of test images, support images and masks. jobs:
    `benchmarks`, the folder of their records, their `threads`, and `notes`, what they
    assume.
    """
    folder, places = Path(folder), [Path(path).parent for path in runs]
    content = dict(zip(places, read_runs(runs), strict=True))
    keys = {place: parse_run(place)[1] for place in places}
    write_times(folder / "times.html", jobs["benchmarks"], jobs["threads"])
    doubts = [*jobs["notes"], *_doubts(cached)]
    write_settings(folder / "settings.html", content.values(), doubts)
    images = defaultdict(dict)
    for source in cached:
        images[source.record["stage"]][_place(source)] = source
    for dataset, group in _grouped(keys, "dataset").items():
        names = order["experiments"], order["classes"][dataset]
        own = [content[place] for place in group]
        write_overview(folder / dataset / "overview.html", own, *names)
        if len(order["experiments"]) > 1:
            write_methods(folder / dataset / "methods.html", own, *names)
        for name, chosen in _grouped(group, "experiment").items():
            _write_experiment(folder / dataset / name, chosen, content, images)


def _place(source: Source) -> tuple[str, str]:
    """Data set and class of a cached file."""
    return source.record["dataset"], source.record["class"]


def _doubts(cached: Sequence[Source]) -> list[str]:
    """Reasons to doubt images and masks, which their files hold, once each."""
    notes = [
        f"{'/'.join(_place(source))}: {note}"
        for source in cached
        for note in read_npz(source.path, "notes", record=source.record)["notes"]
    ]
    return [*dict.fromkeys(notes)]


def _grouped(runs: Mapping[Path, Run], key: str) -> dict[str, dict[Path, Run]]:
    """Runs by a part of their key, in order."""
    groups = defaultdict(dict)
    for place, run in runs.items():
        groups[getattr(run, key)][place] = run
    return groups


def _write_experiment(
    folder: Path,
    keys: Mapping[Path, Run],
    content: Mapping[Path, Mapping],
    images: Mapping[str, Mapping[tuple[str, str], Source]],
) -> None:
    """Write the pages of one data set and experiment."""
    runs = {str(place / HISTORY): content[place] for place in keys}
    write_history(folder / "history.html", runs)
    scores = {place: _scores(place, content[place]) for place in keys}
    scored = [
        (scores[place], content[place]["threshold"])
        for place, key in keys.items()
        if key.task == "cls"
    ]
    if scored:
        write_scores(folder / "scores.html", scored)
    shown = example_runs(keys)
    classes = [run.place for run in shown.values()]
    cached = [[images[kind].get(c) for c in classes] for kind in ("images", "masks")]
    examples = zip(map(scores.get, shown), *cached, strict=True)
    write_examples(folder / "examples.html", [*examples])


def _scores(place: Path, metrics: Mapping) -> Source:
    return Source(str(place / SCORES), metrics["settings"])


def example_runs(runs: Mapping[Path, Run]) -> dict[Path, Run]:
    """The run of each class to show: seg before cls, most shots, first seed."""
    chosen = {}
    for group in _grouped(runs, "class_name").values():
        place = max(group, key=lambda p: (group[p].task == "seg", group[p].shots))
        chosen[place] = group[place]
    return chosen
