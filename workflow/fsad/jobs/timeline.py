"""Resources of a monitored pipeline: a table by job and a plot over time."""

from pathlib import Path

import pandas as pd

from fsad.jobs.monitor import ALL, OWN, STARTING

BINS = 400  # most points in time of the plot
GREYS = {OWN: "0.45", STARTING: "0.8"}  # for Snakemake and for jobs without a log


def summarise(folder: str | Path, cores: int | None) -> None:
    """Write jobs.csv and timeline.svg from the timeline.csv of a folder.

    cores: the budget, drawn as a line.
    """
    folder = Path(folder)
    timeline = pd.read_csv(folder / "timeline.csv")
    job_table(timeline).to_csv(folder / "jobs.csv", lineterminator="\n")
    draw(timeline, folder / "timeline.svg", cores)


def job_table(timeline: pd.DataFrame) -> pd.DataFrame:
    """Seconds, CPU seconds, mean and peak cores and peak MB, by job and of `all`."""
    times = timeline["seconds"].drop_duplicates()
    steps = times.diff().fillna(times).rename("step")
    rows = timeline.join(steps.set_axis(times), on="seconds")
    rows["cpu_seconds"] = rows["cores"] * rows["step"]
    jobs = rows.groupby("job", sort=False)
    table = jobs.agg(
        seconds=("step", "sum"),
        cpu_seconds=("cpu_seconds", "sum"),
        peak_cores=("cores", "max"),
        peak_memory_mb=("memory_mb", "max"),
    )
    table.insert(2, "mean_cores", table["cpu_seconds"] / table["seconds"])
    return table.round(3)


def draw(timeline: pd.DataFrame, path: str | Path, cores: int | None) -> None:
    """Plot cores and memory over time, stacked by rule."""
    import matplotlib.pyplot as plt

    tab20 = plt.colormaps["tab20"].colors
    figure, axes = plt.subplots(2, 1, sharex=True, figsize=(9, 5), layout="constrained")
    panels = ("cores", "cores", 1), ("memory_mb", "memory, GB", 1024)
    for axis, (column, label, unit) in zip(axes, panels, strict=True):
        table = _by_rule(timeline, column) / unit
        colours = iter((*tab20[::2], *tab20[1::2]))
        shades = [GREYS.get(rule) or next(colours) for rule in table]
        axis.stackplot(table.index, table.T, labels=table.columns, colors=shades, lw=0)
        axis.spines[["top", "right"]].set_visible(False)
        if cores and column == "cores":
            axis.axhline(cores, color="black", lw=0.8, ls="--", label="--cores")
        axis.set(ylabel=label, ylim=(0, None))
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right")
    axes[1].set_xlabel("seconds")
    figure.savefig(path)
    plt.close(figure)


def _by_rule(timeline: pd.DataFrame, column: str) -> pd.DataFrame:
    """Sums over the jobs of each rule, means over at most BINS intervals."""
    jobs = timeline[timeline["job"] != ALL]
    table = jobs.assign(rule=jobs["job"].str.split("/").str[0]).pivot_table(
        column, "seconds", "rule", aggfunc="sum", fill_value=0, sort=False
    )
    first = [rule for rule in (OWN, STARTING) if rule in table]
    table = table[[*first, *(rule for rule in table if rule not in first)]]
    length = -(-len(table) // BINS)
    group = [i // length for i in range(len(table))]
    return table.groupby(group).mean().set_axis(table.index[::length])
