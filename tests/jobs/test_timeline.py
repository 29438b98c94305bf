import pandas as pd

from fsad.jobs.monitor import COLUMNS
from fsad.jobs.timeline import job_table


def test_a_table_of_jobs():
    rows = [
        (1.0, "all", 1.5, 30.0),
        (1.0, "embed/x", 1.0, 20.0),
        (3.0, "all", 0.5, 40.0),
        (3.0, "embed/x", 0.5, 35.0),
    ]
    table = job_table(pd.DataFrame(rows, columns=COLUMNS))
    expected = {
        "seconds": 3.0,
        "cpu_seconds": 2.0,
        "mean_cores": 0.667,
        "peak_cores": 1.0,
        "peak_memory_mb": 35.0,
    }
    assert table.loc["embed/x"].to_dict() == expected
    assert table.loc["all", "cpu_seconds"] == 2.5
