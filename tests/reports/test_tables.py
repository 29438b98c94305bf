import csv

import pandas as pd
import pytest

from fsad.artifacts.files import write_record
from fsad.artifacts.provenance import origin
from fsad.errors import UserError
from fsad.evaluation.metrics import METRICS
from fsad.planning.options import complete
from fsad.reports import tables
from fsad.reports.literature import CLASSES as CLASSES_OF
from helpers import REPOSITORY

LITERATURE = REPOSITORY / "config/literature.csv"
OPTIONS = {"decimals": 2, "bold": True}
CLASSES = {"mvtec": ["bottle", "nut", "screw"]}
COLUMNS = ["experiment", "dataset", "class", "task", "shots", "seed"]
COLUMNS += ["selection", "metric", "value"]


def run(name, value, task="cls", shots=1, seed=1, weights="tag", best=0.0, **keys):
    """A metrics.json: every metric `value`, that much more for `best`."""
    names = METRICS[task]
    where = {"experiment": "original", "dataset": "mvtec", "class": name}
    where |= {"task": task, "shots": shots, "seed": seed}
    options = {"epochs": 10, "resolution": 256}
    settings = {**where, "backbone": f"ViT-B-16_{weights}", "options": options, **keys}
    parts = {"textual": value - 20, "visual": value - 10}
    return {
        "last": {"epoch": 10, **dict.fromkeys(names, value), "parts": parts},
        "best": {"epoch": 5, **dict.fromkeys(names, value + best), "parts": parts},
        "settings": settings | origin("train.py"),
    }


# screw never ran; nut ran with one seed and two shots alone
RUNS = [
    run("nut", 90, shots=1, seed=1),
    run("bottle", 80, shots=1, seed=1),
    run("bottle", 84, shots=1, seed=2),
    run("bottle", 70, shots=2, seed=1, best=5),
]


@pytest.fixture
def folder(tmp_path):
    return written(tmp_path, RUNS)


def written(tmp_path, runs, classes=CLASSES["mvtec"], failed=(), logs=(), **options):
    planned = [content["settings"]["options"] for content in runs]
    paths = [stored(tmp_path, content) for content in runs]
    paths = dict(zip(paths, planned, strict=True))
    names = [run["settings"]["experiment"] for run in runs]
    names = list(dict.fromkeys([*names, *(experiment for experiment, *_ in failed)]))
    tables.write_tables(
        *(tmp_path / "tables", paths, {"mvtec": classes}, names, LITERATURE),
        OPTIONS | options,
        failed,
        logs,
    )
    return tmp_path / "tables"


def stored(tmp_path, content):
    """The metrics.json of a run at its place."""
    keys = content["settings"]
    draw = f"k{keys['shots']}", f"s{keys['seed']}"
    place = keys["experiment"], keys["dataset"], keys["class"], *draw, keys["task"]
    path = tmp_path.joinpath("runs", *place, "metrics.json")
    write_record(path, content)
    return path


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def wide_rows(folder, selection="last", experiment="original"):
    """The rows of image AUROC, by class."""
    key = {"experiment": experiment, "selection": selection, "metric": "image_auroc"}
    found = [r for r in rows(folder / "mvtec_cls.csv") if key.items() <= r.items()]
    return {row["class"]: row for row in found}


def names_of(*stems):
    suffixes = ("csv", "md", "tex", "html")
    return {f"{stem}.{suffix}" for stem in stems for suffix in suffixes}


def test_files_are_the_long_table_the_parts_and_each_data_set_and_task(tmp_path):
    folder = written(tmp_path, [*RUNS, run("nut", 60, "seg")])
    expected = names_of("parts", "mvtec_cls", "mvtec_seg")
    expected |= {"metrics.csv", "metrics.parquet"}
    assert {path.name for path in folder.iterdir()} == expected


def test_two_experiments_are_compared(tmp_path):
    folder = written(tmp_path, [*RUNS, run("nut", 93, experiment="qq")])
    assert names_of("comparison") <= {path.name for path in folder.iterdir()}
    found = rows(folder / "comparison.csv")
    keys = {"metric": "image_auroc", "selection": "last", "experiment": "qq"}
    (pair,) = [row for row in found if keys.items() <= row.items()]
    assert (pair["reference"], pair["difference"]) == ("original", "3.0")


def test_the_parquet_file_holds_the_long_table(folder):
    table = pd.read_parquet(folder / "metrics.parquet")
    pd.testing.assert_frame_equal(table, pd.read_csv(folder / "metrics.csv"))


def test_parts_stand_beside_the_fused_score(folder):
    keys = {"class": "bottle", "shots": "2", "selection": "best"}
    found = [r for r in rows(folder / "parts.csv") if keys.items() <= r.items()]
    assert len(rows(folder / "parts.csv")) == len(RUNS) * 2
    parts = [(r["metric"], r["textual"], r["visual"], r["fused"]) for r in found]
    assert parts == [("image_auroc", "50", "60", "75.0")]


def test_the_means_of_the_parts_are_over_classes_first(folder):
    # 1-shot: (90 + 80) / 2 with seed 1 and 84 with seed 2
    lines = (folder / "parts.md").read_text().splitlines()
    assert "| original | mvtec | image_auroc | 1 | 64.50 | 74.50 | **84.50** |" in lines
    assert "| original | mvtec | image_auroc | 2 | 50.00 | 60.00 | **70.00** |" in lines


def test_the_long_table_has_exactly_its_columns(folder):
    found = rows(folder / "metrics.csv")
    assert list(found[0]) == COLUMNS
    assert len(found) == len(RUNS) * 2 * 3


def test_the_long_table_holds_every_value(folder):
    keys = {"experiment": "original", "dataset": "mvtec", "class": "bottle"}
    keys |= {"task": "cls", "shots": "2", "seed": "1"}
    keys |= {"selection": "best", "metric": "image_aupr"}
    found = rows(folder / "metrics.csv")
    assert [row["value"] for row in found if keys.items() <= row.items()] == ["75.0"]


def test_the_order_of_runs_does_not_matter(tmp_path, folder):
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", RUNS[::-1])
    for path in folder.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_a_cell_is_mean_and_deviation_over_seeds(folder):
    bottle = wide_rows(folder)["bottle"]
    assert float(bottle["k1"]) == 82
    assert float(bottle["k1_std"]) == pytest.approx(8**0.5, abs=1e-4)


def test_one_seed_has_no_deviation(folder):
    assert wide_rows(folder)["nut"]["k1_std"] == ""


def test_the_mean_is_over_the_classes_that_ran(folder):
    mean = wide_rows(folder)["mean"]
    assert float(mean["k1"]) == (85 + 84) / 2  # seed 1: nut and bottle; seed 2: bottle
    assert float(mean["k1_std"]) == pytest.approx(0.5**0.5, abs=1e-4)
    assert float(mean["k2"]) == 70


def test_a_class_that_did_not_run_is_empty(folder):
    screw = wide_rows(folder)["screw"]
    assert [screw[name] for name in ("k1", "k1_std", "k2", "k2_std")] == [""] * 4
    assert wide_rows(folder)["nut"]["k2"] == ""


def test_classes_keep_their_order_and_the_mean_is_last(folder):
    assert list(wide_rows(folder)) == [*CLASSES["mvtec"], "mean"]


def test_last_and_best_are_told_apart(folder):
    assert float(wide_rows(folder, "last")["bottle"]["k2"]) == 70
    assert float(wide_rows(folder, "best")["bottle"]["k2"]) == 75


def test_experiments_are_told_apart(tmp_path):
    folder = written(tmp_path, [*RUNS, run("bottle", 10, experiment="qq")])
    assert float(wide_rows(folder)["bottle"]["k1"]) == 82
    assert float(wide_rows(folder, experiment="qq")["bottle"]["k1"]) == 10


def test_an_undefined_metric_is_empty_and_not_in_the_mean(tmp_path):
    folder = written(tmp_path, [run("bottle", 80), run("nut", float("nan"))])
    assert wide_rows(folder)["nut"]["k1"] == ""
    assert float(wide_rows(folder)["mean"]["k1"]) == 80


# of bottle a seed with one shot, and all of screw
FAILED = [
    ("original", "mvtec", "bottle", "cls", 1, 3),
    ("original", "mvtec", "screw", "cls", 1, 1),
    ("original", "mvtec", "screw", "seg", 1, 1),
]


def test_a_failed_run_is_named_and_its_class_in_no_mean(tmp_path):
    folder = written(tmp_path, RUNS, failed=FAILED, logs=["a.log"])
    found = wide_rows(folder)
    shown = {name: (found[name]["k1"], found[name]["k2"]) for name in found}
    assert shown["bottle"] == ("failed", "70.0")
    assert shown["nut"] == ("90.0", "")
    assert shown["screw"] == ("failed", "")
    assert shown["mean"] == ("90.0", "70.0")
    assert section(folder, "original: image_auroc, last")[2:5] == [
        "| bottle | failed | 70.00 |",
        "| nut | 90.00 | – |",
        "| screw | failed | – |",
    ]


def test_the_long_table_keeps_what_did_not_fail(tmp_path, folder):
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", RUNS, failed=FAILED, logs=["a.log"])
    name = "metrics.csv"
    assert (other / name).read_bytes() == (folder / name).read_bytes()


def test_what_failed_is_in_no_mean_of_the_parts_and_no_comparison(tmp_path):
    runs = [run(name, 90, seed=seed) for name in ("bottle", "nut") for seed in (1, 2)]
    runs += [run("bottle", 70, seed=seed, experiment="other") for seed in (1, 2)]
    runs += [run("nut", 10, seed=1, experiment="other")]
    failed = [("other", "mvtec", "nut", "cls", 1, 2)]
    folder = written(tmp_path, runs, failed=failed, logs=["a.log"])
    means = parts_section(folder)
    assert "| other | mvtec | image_auroc | 1 | 50.00 | 60.00 | 70.00 |" in means
    compared = [r for r in rows(folder / "comparison.csv") if r["selection"] == "last"]
    assert {(row["classes"], row["difference"]) for row in compared} == {("1", "-20.0")}


def parts_section(folder):
    return (folder / "parts.md").read_text().replace("**", "").splitlines()


def test_failures_are_counted_on_every_page_and_their_logs_named(tmp_path):
    logs = [f"{index}.log" for index in range(6)]
    folder = written(tmp_path, RUNS, failed=FAILED, logs=logs)
    warning = (
        "**Warning: 3 runs failed, and are in no mean: 1 of mvtec/bottle, 2 of "
        "mvtec/screw. Why is told in 0.log, 1.log, 2.log, 3.log, 4.log and more."
    )
    for name in ("mvtec_cls.md", "mvtec_seg.md", "parts.md"):
        assert warning in (folder / name).read_text()


def test_where_all_failed_the_tables_say_so(tmp_path):
    folder = written(tmp_path, [], failed=FAILED, logs=["a.log"])
    found = [row["k1"] for row in rows(folder / "mvtec_cls.csv")]
    assert set(found) == {"failed", ""}
    assert rows(folder / "metrics.csv") == []


def section(folder, title):
    text = (folder / "mvtec_cls.md").read_text()
    return text.partition(f"## {title}\n\n")[2].partition("\n\n")[0].splitlines()


def test_markdown(folder):
    assert section(folder, "original: image_auroc, last") == [
        "| class | 1-shot | 2-shot |",
        "|---|---:|---:|",
        "| bottle | 82.00 ± 2.83 | 70.00 |",
        "| nut | 90.00 | – |",
        "| screw | – | – |",
        "| mean | 84.50 ± 0.71 | 70.00 |",
    ]


def test_markdown_has_a_section_for_each_metric_and_selection(folder):
    text = (folder / "mvtec_cls.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        *(f"## {metric}, mean over 3 classes" for metric in METRICS["cls"]),
        *(
            f"## original: {metric}, {selection}"
            for metric in METRICS["cls"]
            for selection in ("last", "best")
        ),
    ]


def test_the_means_stand_first_and_tell_of_how_many_classes(folder):
    assert section(folder, "image_auroc, mean over 3 classes") == [
        "| method | protocol | 1-shot | 2-shot |",
        "|---|---|---:|---:|",
        "| original | last | 84.50 ± 0.71 (2/3) | 70.00 (1/3) |",
        "| original | best | 84.50 ± 0.71 (2/3) | 75.00 (1/3) |",
    ]


QQ = [run("bottle", 90, experiment="qq"), run("nut", 89.996, experiment="qq")]


def test_the_best_experiment_is_bold(tmp_path):
    folder = written(tmp_path, [*RUNS, *QQ])
    assert "| bottle | 82.00 ± 2.83 | 70.00 |" in section(
        folder, "original: image_auroc, last"
    )
    qq = section(folder, "qq: image_auroc, last")
    assert "| bottle | **90.00** | – |" in qq
    # equal as printed: both
    assert "| nut | **90.00** | – |" in qq
    assert "| nut | **90.00** | – |" in section(folder, "original: image_auroc, last")
    assert "| qq | last | **90.00 (2/3)** | – |" in section(
        folder, "image_auroc, mean over 3 classes"
    )


def test_decimals_and_bold_are_options(tmp_path):
    folder = written(tmp_path, [*RUNS, *QQ], decimals=1, bold=False)
    text = (folder / "mvtec_cls.md").read_text()
    assert "| bottle | 82.0 ± 2.8 | 70.0 |" in text
    assert "**" not in text
    assert float(wide_rows(folder)["bottle"]["k1_std"]) == pytest.approx(2.8284)


def test_experiments_keep_the_order_of_the_configuration(tmp_path):
    runs = [run("nut", 90, experiment=name) for name in ("zz", "aa")]
    text = (written(tmp_path, runs) / "mvtec_cls.md").read_text()
    assert text.index("## zz: image_auroc, last") < text.index("## aa: image_auroc")


MVTEC = sorted(CLASSES_OF["mvtec"])


def test_published_values_stand_beside_the_same_setting(tmp_path):
    runs = [run(name, 95, shots=k) for name in MVTEC for k in (2, 3)]
    folder = written(tmp_path, [*runs, run("bottle", 90, shots=4)], classes=MVTEC)
    found = section(folder, "image_auroc, mean over 15 classes")
    assert "| PatchCore | as published | 86.3 | – | – |" in found
    assert "| PromptAD | re-runs of the public code | 92.8–95.1 | – | – |" in found
    assert "as published" not in "".join(section(folder, "original: image_auroc, last"))


def test_published_values_need_all_classes(tmp_path):
    folder = written(tmp_path, [run(name, 95, shots=2) for name in MVTEC[1:]])
    assert "as published" not in (folder / "mvtec_cls.md").read_text()
    folder = written(
        tmp_path, [run(name, 95, shots=2) for name in MVTEC[1:]], classes=MVTEC
    )
    assert "as published" not in (folder / "mvtec_cls.md").read_text()


def test_markdown_tells_the_protocol(folder):
    text = (folder / "mvtec_cls.md").read_text()
    assert text.startswith("# mvtec, cls\n")
    assert "highest AUROC on the test set" in text
    assert "RANDOM" not in text


def test_random_weights_are_warned_about(tmp_path):
    runs = [*RUNS, run("screw", 50, weights="random0")]
    text = (written(tmp_path, runs) / "mvtec_cls.md").read_text()
    assert "Warning: the backbone has RANDOM weights" in text


@pytest.mark.parametrize("content", ["", "{", '{"last": '])
def test_a_damaged_run_is_named(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=rf"{tmp_path}/metrics\.json: damaged"):
        tables.read_run(tmp_path / "metrics.json")


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / "metrics.json")):
        tables.read_run(tmp_path / "metrics.json")


def test_a_changed_number_is_told(tmp_path):
    path = stored(tmp_path, run("nut", 81.5))
    path.write_text(path.read_text().replace("81.5", "91.5"))
    with pytest.raises(UserError, match=rf"{path}: damaged"):
        tables.read_run(path)


def test_the_run_of_another_class_is_told(tmp_path):
    path = stored(tmp_path, run("nut", 80))
    stored(tmp_path, run("bolt", 80)).rename(path)
    with pytest.raises(UserError, match=f"{path}: is of class bolt, not nut"):
        tables.read_run(path)


def test_a_run_trained_otherwise_than_planned_is_told(tmp_path):
    content = run("nut", 80)
    path = stored(tmp_path, content)
    with pytest.raises(UserError, match=f"{path}: is of epochs 10, not 20"):
        tables.write_tables(
            *(tmp_path / "tables", {path: {"epochs": 20, "resolution": 256}}),
            *(CLASSES, ["original"], LITERATURE, OPTIONS),
        )


def test_the_planned_options_are_those_of_the_run_at_the_path(tmp_path):
    (tmp_path / "nut/train/good").mkdir(parents=True)
    source = {"layout": "mvtec", "root": str(tmp_path), "classes": ["nut"]}
    overrides = {"mvtec": {"nut": {"epochs": 7}}}
    config = complete({"datasets": {"mvtec": source}, "overrides": overrides})
    path = "r/runs/original/mvtec/{}/k4/s5/seg/metrics.json"
    nut, bolt = (
        tables.planned_options(config, path.format(name)) for name in ("nut", "bolt")
    )
    assert (nut["epochs"], nut["seed"], nut["n_pro"]) == (7, 5, 1)
    assert (bolt["epochs"], bolt["seed"], bolt["n_pro"]) == (100, 5, 1)


def test_the_run_of_other_code_is_told(tmp_path):
    content = run("nut", 80)
    content["settings"]["code"] = "old"
    path = stored(tmp_path, content)
    with pytest.raises(UserError, match=f"{path}: is of code old, not"):
        tables.read_run(path)
