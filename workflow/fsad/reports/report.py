"""All pages of the report."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from fsad.artifacts.files import read_settings
from fsad.artifacts.paths import Run, parse_run
from fsad.reports.examples import write_examples
from fsad.reports.figure_pages import write_history, write_overview, write_scores
from fsad.reports.runtime_pages import write_settings, write_times
from fsad.reports.tables import read_runs

Place = tuple[str, str]  # data set and class


def write_report(
    folder: str | Path,
    runs: Mapping[str, Mapping],
    order: Mapping,
    cached: Sequence[str],
    jobs: Mapping,
) -> None:
    """Write every page of the report into `folder`, as .html.

    The pages are DATASET/overview, DATASET/EXPERIMENT/{history,scores,examples}, times
    and settings. runs, order: see `tables.write_tables`. cached: files of test images
    and masks. jobs: `benchmarks`, the folder of their records, and their `threads`.
    """
    folder, content = Path(folder), dict(zip(runs, read_runs(runs), strict=True))
    keys = {path: parse_run(Path(path).parent)[1] for path in runs}
    write_times(folder / "times.html", jobs["benchmarks"], jobs["threads"])
    write_settings(folder / "settings.html", content.values())
    images = {_kind(settings): path for path, settings in _settings(cached)}
    for dataset, group in _grouped(keys, "dataset").items():
        own, place = [content[path] for path in group], folder / dataset
        names = order["experiments"], order["classes"][dataset]
        write_overview(place / "overview.html", own, *names)
        for name, chosen in _grouped(group, "experiment").items():
            _write_experiment(place / name, chosen, content, images)


def _grouped(runs: Mapping[str, Run], key: str) -> dict[str, dict[str, Run]]:
    """Runs by a part of their key, in order."""
    groups = defaultdict(dict)
    for path, run in runs.items():
        groups[getattr(run, key)][path] = run
    return groups


def _settings(paths: Sequence[str]) -> list[tuple[str, dict]]:
    return [(path, read_settings(path)) for path in paths]


def _kind(settings: Mapping) -> tuple[str, Place]:
    return settings["stage"], (settings["dataset"], settings["class"])


def _write_experiment(
    folder: Path,
    keys: Mapping[str, Run],
    content: Mapping[str, Mapping],
    images: Mapping[tuple[str, Place], str],
) -> None:
    """Write the pages of one data set and experiment."""
    folders = {Path(path).parent: key for path, key in keys.items()}
    histories = [place / "history.csv" for place in folders]
    write_history(folder / "history.html", [content[path] for path in keys], histories)
    scored = [p / "scores.npz" for p, key in folders.items() if key.task == "cls"]
    if scored:
        write_scores(folder / "scores.html", scored)
    shown = example_runs(folders)
    places = [(key.dataset, key.class_name) for key in shown.values()]
    sources = (
        [images[kind, place] for place in places if (kind, place) in images]
        for kind in ("images", "masks")
    )
    scores = [place / "scores.npz" for place in shown]
    write_examples(folder / "examples.html", scores, *sources)


def example_runs(runs: Mapping[Path, Run]) -> dict[Path, Run]:
    """The run of each class to show: seg before cls, most shots, first seed."""
    chosen = {}
    for folder, run in runs.items():
        best = chosen.get(run.class_name)
        if best is None or _shown(run) > _shown(best[1]):
            chosen[run.class_name] = folder, run
    return dict(chosen.values())


def _shown(run: Run) -> tuple[bool, int]:
    return run.task == "seg", run.shots
