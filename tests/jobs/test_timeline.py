import pandas as pd

from fsad.jobs.monitor import COLUMNS
from fsad.jobs.timeline import draw, job_table

RUN = "train/original/own/bolt/k1_s111_seg"
TIMELINE = pd.DataFrame(
    [
        (1.0, "all", 1.5, 30.0),
        (1.0, RUN, 1.0, 20.0),
        (3.0, "all", 0.5, 40.0),
        (3.0, RUN, 0.5, 35.0),
        (3.0, "train/original/own/bolt/k1_s111_cls", 0.0, 5.0),
        (3.0, "snakemake", 0.0, 5.0),
    ],
    columns=COLUMNS,
)


def test_a_table_of_jobs():
    table = job_table(TIMELINE)
    expected = {
        "seconds": 3.0,
        "cpu_seconds": 2.0,
        "mean_cores": 0.667,
        "peak_cores": 1.0,
        "peak_memory_mb": 35.0,
    }
    assert table.loc[RUN].to_dict() == expected
    assert table.loc["all", "cpu_seconds"] == 2.5


def test_a_plot_has_one_area_for_each_rule(tmp_path):
    draw(TIMELINE, tmp_path / "timeline.svg", cores=2)
    text = (tmp_path / "timeline.svg").read_text()
    labels = {name: text.count(f"<!-- {name} -->") for name in ("train", "snakemake")}
    assert labels == {"train": 1, "snakemake": 1}
    assert RUN not in text
