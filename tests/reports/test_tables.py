import pandas as pd
import pytest

from fsad.artifacts.paths import Run
from fsad.errors import UserError
from fsad.evaluation.metrics import METRICS
from fsad.reports import tables
from fsad.reports.literature import CLASSES as CLASSES_OF
from helpers import REPOSITORY
from reports.contents import rows, run, store, store_all

LITERATURE = REPOSITORY / "config/literature.csv"
REFERENCES = REPOSITORY / "config/references.bib"
OPTIONS = {"decimals": 2, "bold": True}
CLASSES = {"mvtec": ["bottle", "nut", "screw"]}
COLUMNS = [
    "experiment",
    "method",
    "backbone",
    "dataset",
    "class",
    "task",
    "shots",
    "seed",
]
COLUMNS += ["selection", "metric", "value"]

# screw never ran; nut ran with one seed and two shots alone
RUNS = [
    run("nut", 90, shots=1, seed=1),
    run("bottle", 80, shots=1, seed=1),
    run("bottle", 84, shots=1, seed=2),
    run("bottle", 70, shots=2, seed=1, best=5),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tables of RUNS; tests leave them as they are."""
    return written(tmp_path_factory.mktemp("tables"), RUNS)


def written(tmp_path, runs, classes=CLASSES["mvtec"], failed=(), logs=(), **options):
    """The folder of the tables of these runs."""
    names = [content["settings"]["experiment"] for content in runs]
    names = dict.fromkeys([*names, *(run.experiment for run in failed)])
    order = {"experiments": list(names), "classes": {"mvtec": classes}}
    tables.write_tables(
        tmp_path / "tables",
        store_all(tmp_path, runs),
        order,
        LITERATURE,
        OPTIONS | options,
        references=REFERENCES,
        failed=failed,
        logs=logs,
    )
    return tmp_path / "tables"


def wide_rows(folder, selection="last", experiment="original"):
    """The rows of image AUROC, by class."""
    key = {"experiment": experiment, "selection": selection, "metric": "image_auroc"}
    found = [r for r in rows(folder / "mvtec_cls.csv") if key.items() <= r.items()]
    return {row["class"]: row for row in found}


def names_of(*stems):
    suffixes = ("csv", "md", "tex", "html")
    return {f"{stem}.{suffix}" for stem in stems for suffix in suffixes}


def test_files_are_the_long_table_the_components_and_each_data_set_and_task(tmp_path):
    folder = written(tmp_path, [*RUNS, run("nut", 60, "seg")])
    expected = names_of("components", "mvtec_cls", "mvtec_seg")
    expected |= {"metrics.csv", "metrics.parquet", "kinds.csv", "references.bib"}
    assert {path.name for path in folder.iterdir()} == expected


def test_two_experiments_are_compared(tmp_path):
    folder = written(tmp_path, [*RUNS, run("nut", 93, experiment="qq")])
    assert names_of("comparison") <= {path.name for path in folder.iterdir()}
    found = rows(folder / "comparison.csv")
    keys = {"metric": "image_auroc", "selection": "last", "experiment": "qq"}
    (pair,) = [row for row in found if keys.items() <= row.items()]
    assert (pair["reference"], pair["difference"]) == ("original", "3.0")


def test_two_experiments_have_a_table_of_methods(tmp_path):
    other = run("nut", 93, experiment="qq", method="patchcore", backbone="resnet50")
    folder = written(tmp_path, [*RUNS, other, run("bottle", 60, "seg")])
    assert names_of("mvtec_methods") <= {path.name for path in folder.iterdir()}
    found = {
        (row["experiment"], row["metric"], row["shots"]): row
        for row in rows(folder / "mvtec_methods.csv")
    }
    row = found["qq", "image_auroc", "1"]
    assert (row["method"], row["backbone"]) == ("patchcore", "resnet50")
    assert (row["mean"], row["classes"], row["wins"]) == ("93.0", "1", "1.0")
    assert found["original", "pixel_auroc", "1"]["mean"] == "60.0"
    text = (folder / "mvtec_methods.md").read_text()
    assert (
        "Cite: promptad, patchcore, clip, open_clip, mvtec (`references.bib`)" in text
    )


def test_where_all_runs_of_an_experiment_failed_its_methods_are_dashes(tmp_path):
    failed = [Run("other", "mvtec", "nut", "cls", 1, 1)]
    folder = written(tmp_path, RUNS, failed=failed, logs=["a.log"])
    text = (folder / "mvtec_methods.md").read_text()
    assert "| other | – | – | – | – |" in text
    folder = written(tmp_path, [], failed=[*failed, *FAILED], logs=["a.log"])
    assert "| other | – | – | – |" in (folder / "mvtec_methods.md").read_text()


def test_kinds_and_references_are_those_of_the_runs(folder):
    found = rows(folder / "kinds.csv")
    assert len(found) == len(RUNS) * 2
    assert {(row["kind"], row["images"]) for row in found} == {
        ("hole", "1"),
        ("scratch", "1"),
    }
    text = (folder / "references.bib").read_text()
    assert "{promptad," in text
    assert "{patchcore," not in text


def test_the_parquet_file_holds_the_long_table(folder):
    table = pd.read_parquet(folder / "metrics.parquet")
    pd.testing.assert_frame_equal(table, pd.read_csv(folder / "metrics.csv"))


def test_the_one_run_of_zero_shots_has_no_deviation(tmp_path):
    runs = [run("nut", 70, shots=0, seed=1)]
    runs += [run("nut", value, seed=seed) for seed, value in ((1, 80), (2, 84))]
    folder = written(tmp_path, runs, classes=["nut"])
    found = wide_rows(folder)["nut"]
    assert (found["k0"], found["k0_std"]) == ("70.0", "")
    assert float(found["k1_std"]) > 0
    assert "| nut | 70.00 | 82.00 ± 2.83 |" in (folder / "mvtec_cls.md").read_text()


def test_components_stand_beside_the_fused_score(folder):
    keys = {"class": "bottle", "shots": "2", "selection": "best"}
    found = [r for r in rows(folder / "components.csv") if keys.items() <= r.items()]
    assert len(rows(folder / "components.csv")) == len(RUNS) * 2
    names = "metric", "text_probability", "memory_distance", "fused"
    assert [tuple(row[name] for name in names) for row in found] == [
        ("image_auroc", "50", "60", "75.0")
    ]


def test_the_means_of_the_components_are_over_classes_first(folder):
    # 1-shot: (90 + 80) / 2 with seed 1 and 84 with seed 2
    lines = (folder / "components.md").read_text().splitlines()
    assert "| original | mvtec | image_auroc | 1 | 74.50 | 64.50 | **84.50** |" in lines
    assert "| original | mvtec | image_auroc | 2 | 60.00 | 50.00 | **70.00** |" in lines


def with_components(content, components):
    """A run of a method with these components."""
    for selection in ("last", "best"):
        content[selection]["components"] = components
    return content


def test_methods_have_the_columns_of_their_own_components(tmp_path):
    """In one order, whichever method comes first."""
    other = with_components(run("bottle", 70, experiment="other"), {"another": 50})
    for name, runs in (("a", [*RUNS, other]), ("b", [other, *RUNS])):
        (tmp_path / name).mkdir()
        folder = written(tmp_path / name, runs)
        found = components_section(folder)
        names = "another | memory_distance | text_probability | fused"
        assert f"| experiment | dataset | metric | shots | {names} |" in found
        assert "| other | mvtec | image_auroc | 1 | 50.00 | – | – | 70.00 |" in found
        assert "| original | mvtec | image_auroc | 2 | – | 60.00 | 50.00 | 70.00 |" in (
            found
        )


def test_a_method_without_components_is_in_the_other_tables_alone(tmp_path):
    plain = with_components(run("bottle", 70, experiment="plain"), {})
    folder = written(tmp_path, [*RUNS, plain])
    found = {row["experiment"] for row in rows(folder / "components.csv")}
    assert found == {"original"}
    assert float(wide_rows(folder, experiment="plain")["bottle"]["k1"]) == 70
    (tmp_path / "alone").mkdir()
    text = (written(tmp_path / "alone", [plain]) / "components.md").read_text()
    assert "No method here has components." in text


def test_the_long_table_names_method_and_backbone_of_each_experiment(tmp_path):
    other = run("bottle", 70, experiment="x", method="patchcore", backbone="resnet50")
    folder = written(tmp_path, [*RUNS, other])
    found = {
        (row["experiment"], row["method"], row["backbone"])
        for row in rows(folder / "metrics.csv")
    }
    expected = {
        ("original", "promptad", "ViT-B-16_tag"),
        ("x", "patchcore", "resnet50"),
    }
    assert found == expected


def test_pages_name_the_experiments_without_training(tmp_path):
    free = run("bottle", 70, experiment="free", options={"neighbours": 1})
    text = (written(tmp_path, [*RUNS, free]) / "mvtec_cls.md").read_text()
    assert "Without training, one evaluation is both: free." in text


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
    other = written(tmp_path, RUNS[::-1])
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


def test_last_and_best_are_distinct(folder):
    assert float(wide_rows(folder, "last")["bottle"]["k2"]) == 70
    assert float(wide_rows(folder, "best")["bottle"]["k2"]) == 75


def test_experiments_are_distinct(tmp_path):
    folder = written(tmp_path, [*RUNS, run("bottle", 10, experiment="qq")])
    assert float(wide_rows(folder)["bottle"]["k1"]) == 82
    assert float(wide_rows(folder, experiment="qq")["bottle"]["k1"]) == 10


def test_an_undefined_metric_is_empty_and_not_in_the_mean(tmp_path):
    folder = written(tmp_path, [run("bottle", 80), run("nut", float("nan"))])
    assert wide_rows(folder)["nut"]["k1"] == ""
    assert float(wide_rows(folder)["mean"]["k1"]) == 80


def test_where_no_metric_is_defined_the_tables_are_empty(tmp_path):
    runs = [run(name, float("nan")) for name in ("bottle", "nut")]
    folder = written(tmp_path, runs)
    assert {row["k1"] for row in wide_rows(folder).values()} == {""}
    assert "| bottle | – |" in (folder / "mvtec_cls.md").read_text()


# of bottle a seed with one shot, and all of screw
FAILED = [
    Run("original", "mvtec", "bottle", "cls", 1, 3),
    Run("original", "mvtec", "screw", "cls", 1, 1),
    Run("original", "mvtec", "screw", "seg", 1, 1),
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


def test_the_long_table_keeps_runs_that_did_not_fail(tmp_path, folder):
    other = written(tmp_path, RUNS, failed=FAILED, logs=["a.log"])
    name = "metrics.csv"
    assert (other / name).read_bytes() == (folder / name).read_bytes()


def test_failed_runs_are_in_no_mean_of_the_components_and_no_comparison(tmp_path):
    runs = [run(name, 90, seed=seed) for name in ("bottle", "nut") for seed in (1, 2)]
    runs += [run("bottle", 70, seed=seed, experiment="other") for seed in (1, 2)]
    runs += [run("nut", 10, seed=1, experiment="other")]
    failed = [Run("other", "mvtec", "nut", "cls", 1, 2)]
    folder = written(tmp_path, runs, failed=failed, logs=["a.log"])
    means = components_section(folder)
    assert "| other | mvtec | image_auroc | 1 | 60.00 | 50.00 | 70.00 |" in means
    compared = [r for r in rows(folder / "comparison.csv") if r["selection"] == "last"]
    assert {(row["classes"], row["difference"]) for row in compared} == {("1", "-20.0")}


def components_section(folder):
    return (folder / "components.md").read_text().replace("**", "").splitlines()


def test_failures_are_counted_on_every_page_and_their_logs_named(tmp_path):
    logs = [f"{index}.log" for index in range(6)]
    folder = written(tmp_path, RUNS, failed=FAILED, logs=logs)
    warning = (
        "**Warning: 3 runs failed, and are in no mean: 1 of mvtec/bottle, 2 of "
        "mvtec/screw. See 0.log, 1.log, 2.log, 3.log, 4.log and more, and run"
    )
    for name in ("mvtec_cls.md", "mvtec_seg.md", "components.md"):
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


def test_the_means_stand_first_with_the_number_of_classes(folder):
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


def test_markdown_names_the_protocol(folder):
    text = (folder / "mvtec_cls.md").read_text()
    assert text.startswith("# mvtec, cls\n")
    assert "highest AUROC on the test set" in text
    assert "RANDOM" not in text


def test_random_weights_are_warned_about(tmp_path):
    runs = [*RUNS, run("screw", 50, backbone="ViT-B-16_random0")]
    text = (written(tmp_path, runs) / "mvtec_cls.md").read_text()
    assert "Warning: the backbone has RANDOM weights" in text


def read(path, **record):
    (content,) = tables.read_runs({path: record})
    return content


def test_runs_are_read_in_order(tmp_path):
    contents = [run("nut", 80), run("bolt", 90)]
    assert tables.read_runs(store_all(tmp_path, contents)) == contents


def test_a_metric_that_is_nan_is_null_in_the_file(tmp_path):
    path = store(tmp_path, run("nut", float("nan")))
    assert "NaN" not in path.read_text()
    found = read(path)["last"]
    values = found["image_auroc"], found["components"]["memory_distance"]
    assert pd.isna([*values]).all()
    assert {type(value) for value in values} == {float}


@pytest.mark.parametrize("content", ["", "{", '{"last": '])
def test_a_damaged_run_is_named(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=rf"{tmp_path}/metrics\.json: damaged"):
        read(tmp_path / "metrics.json")


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / "metrics.json")):
        read(tmp_path / "metrics.json")


def test_a_changed_number_is_noticed(tmp_path):
    path = store(tmp_path, run("nut", 81.5))
    path.write_text(path.read_text().replace("81.5", "91.5"))
    with pytest.raises(UserError, match=rf"{path}: damaged"):
        read(path)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"class": "bolt"}, "is of class nut, not bolt"),
        ({"code": "old"}, "is of code now, not old"),
        ({"options": {"epochs": 20}}, "is of options.epochs 10, not 20"),
    ],
)
def test_a_run_of_another_record_is_refused(tmp_path, record, reason):
    path = store(tmp_path, run("nut", 80))
    with pytest.raises(UserError, match=f"{path}: {reason}"):
        read(path, **record)


def test_tables_refuse_a_run_of_another_record(tmp_path):
    paths = {path: {"code": "later"} for path in store_all(tmp_path, RUNS)}
    order = {"experiments": ["original"], "classes": CLASSES}
    with pytest.raises(UserError, match="is of code now, not later"):
        tables.write_tables(
            tmp_path / "tables",
            paths,
            order,
            LITERATURE,
            OPTIONS,
            references=REFERENCES,
        )
    assert not (tmp_path / "tables").exists()
