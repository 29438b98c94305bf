"""Tables of `make tiles`: each method on whole images and on tiles, with its cost."""

import argparse
import re
from pathlib import Path

import pandas as pd

METRICS = ("image_auroc", "pixel_auroc", "aupro")


def main() -> None:
    """Print a table of metrics by class, and one of seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="of config/tiles.yaml")
    results = parser.parse_args().results
    print(_metrics(pd.read_csv(results / "tables/metrics.csv")))
    print()
    print(_costs(results / "benchmarks/train_class"))


def _metrics(table: pd.DataFrame) -> str:
    """image AUROC / pixel AUROC / AUPRO, means over seeds, of each class."""
    chosen = table[(table["selection"] == "last") & table["metric"].isin(METRICS)]
    keys = ["experiment", "class", "metric"]
    means = chosen.groupby(keys, sort=False)["value"].mean().unstack("metric")
    classes = sorted(chosen["class"].unique())
    lines = [["experiment", *classes, "mean"], ["---"] * (len(classes) + 2)]
    for name in chosen["experiment"].unique():
        own = means.loc[name][[*METRICS]]
        rows = [*(own.loc[c] for c in classes), own.mean()]
        lines.append([name, *(" / ".join(f"{x:.1f}" for x in row) for row in rows)])
    return _markdown(lines)


def _costs(folder: Path) -> str:
    """CPU seconds and peak memory of the jobs of all runs, over the classes."""
    lines = [
        ["experiment", "CPU seconds", "largest memory, MB"],
        ["---", "---:", "---:"],
    ]
    for own in sorted(folder.iterdir()):
        jobs = [pd.read_csv(path, sep="\t") for path in own.rglob("*.tsv")]
        found = pd.concat(jobs)
        seconds, memory = found["cpu_time"].sum(), found["max_rss"].max()
        lines.append([own.name, f"{seconds:.0f}", f"{memory:.0f}"])
    return _markdown(lines)


def _markdown(lines: list[list[str]]) -> str:
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return re.sub(r" +", " ", rows)


if __name__ == "__main__":
    main()
