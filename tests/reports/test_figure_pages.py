import numpy as np

from fsad.artifacts.content import content_digest
from fsad.artifacts.files import write_npz
from fsad.artifacts.sources import Source
from fsad.evaluation.metrics import METRICS
from fsad.reports import figure_pages
from reports.contents import pictures, run, words

RUNS = [
    run(name, 80, task, shots=k, seed=seed)
    for name in ("bottle", "nut")
    for task in METRICS
    for k in (1, 4)
    for seed in (1, 2)
]


def overview(folder, runs):
    path = folder / "overview.html"
    figure_pages.write_overview(path, runs, ["original"], ["bottle"])
    return path


def test_the_overview_shows_each_metric_it_has(tmp_path):
    path = overview(tmp_path, RUNS)
    titles = [f"{m} of each class" for m in ("image AUROC", "pixel AUROC", "AUPRO")]
    assert list(pictures(path)) == ["means against shots", *titles]
    assert "RANDOM" not in path.read_text()


def test_the_overview_of_one_task(tmp_path):
    runs = [content for content in RUNS if content["settings"]["task"] == "cls"]
    assert list(pictures(overview(tmp_path, runs))) == [
        "means against shots",
        "image AUROC of each class",
    ]


def test_the_overview_shows_last_alone(tmp_path):
    runs = [run("bottle", 80, best=10)]
    drawn = pictures(overview(tmp_path, runs))["image AUROC of each class"]
    assert "80.0" in words(drawn)
    assert "90.0" not in words(drawn)


def test_an_undefined_metric_is_left_out(tmp_path):
    runs = [run("bottle", float("nan")), run("bottle", 70, "seg")]
    assert "image AUROC of each class" not in pictures(overview(tmp_path, runs))


def test_without_any_defined_metric_the_overview_says_so(tmp_path):
    path = overview(tmp_path, [run("bottle", float("nan"))])
    assert pictures(path) == {}
    assert "No metric is defined" in path.read_text()


def methods_page(folder, runs):
    path = folder / "methods.html"
    figure_pages.write_methods(path, runs, ["original", "other"], ["bottle", "nut"])
    return path


def test_the_page_of_methods_shows_the_most_shots(tmp_path):
    others = [run("nut", 70, shots=k, experiment="other") for k in (1, 4)]
    drawn = pictures(methods_page(tmp_path, [*RUNS, *others]))
    maps = [f"{metric} AUROC of each class" for metric in ("image", "pixel")]
    assert list(drawn) == ["Ranking", *maps]
    assert {"original", "other", "image AUROC", "AUPRO"} <= {*words(drawn["Ranking"])}
    assert words(drawn[maps[0]]).count("80.0") == 2
    assert "70.0" in words(drawn[maps[0]])
    assert "4-shot" in methods_page(tmp_path, RUNS).read_text()


def test_without_any_defined_metric_the_page_of_methods_says_so(tmp_path):
    path = methods_page(tmp_path, [run("bottle", float("nan"))])
    assert "No metric is defined" in path.read_text()


def test_random_weights_are_warned_about(tmp_path):
    path = overview(tmp_path, [run("bottle", 80, backbone="ViT-B-16_random0")])
    assert 'class="warning"' in path.read_text()


def history_page(folder, runs, values="90,80"):
    """The pictures of the page on the training of these runs."""
    found = {}
    for index, content in enumerate(runs):
        metric = METRICS[content["settings"]["task"]][0]
        first, last = values.split(",")
        table = f"epoch,{metric}\n1,\n5,{first}\n10,{last}\n"
        path = folder / f"{index}.csv"
        path.write_text(table)
        found[path] = content | {"history": content_digest(table)}
    figure_pages.write_history(folder / "page.html", found)
    return pictures(folder / "page.html")


def test_history_has_a_section_for_each_task(tmp_path):
    found = history_page(tmp_path, RUNS)
    assert list(found) == ["image AUROC", "pixel AUROC"]
    assert {"bottle", "nut", "1-shot", "4-shot"} <= set(words(found["pixel AUROC"]))


def test_history_without_auroc_can_be_drawn(tmp_path):
    found = history_page(tmp_path, [run("bottle", float("nan"))], values="nan,nan")
    assert "bottle" in words(found["image AUROC"])


def write_scores(folder, name, shots, seed=1, labels=(0, 1)):
    arrays = {"labels": np.array(labels)}
    arrays["last_scores"] = np.linspace(0, 1, len(labels))
    settings = {"dataset": "mvtec", "experiment": "original"}
    settings |= {"class": name, "shots": shots, "seed": seed}
    path = folder / f"{name}_{shots}_{seed}.npz"
    write_npz(path, arrays, settings)
    return Source(path, settings), 0.5 * seed if shots else None


def test_scores_have_a_section_for_each_number_of_shots(tmp_path):
    scores = [write_scores(tmp_path, n, k) for n in ("nut", "bolt") for k in (4, 1)]
    figure_pages.write_scores(tmp_path / "page.html", scores)
    found = pictures(tmp_path / "page.html")
    assert list(found) == ["1-shot", "4-shot"]
    assert {"nut", "bolt"} <= set(words(found["4-shot"]))


def test_scores_of_zero_shots_have_no_threshold(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        figure_pages.figures, "histograms", lambda s: seen.append(s) or ""
    )
    scores = [write_scores(tmp_path, "nut", 0)]
    figure_pages.write_scores(tmp_path / "page.html", scores)
    assert seen[0]["nut"].thresholds == []


def test_scores_of_all_seeds_are_put_together(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        figure_pages.figures, "histograms", lambda s: seen.append(s) or ""
    )
    scores = [write_scores(tmp_path, "nut", 1, s, [0, 1, 1][:s]) for s in (2, 3)]
    figure_pages.write_scores(tmp_path / "page.html", scores)
    labels, values, thresholds = seen[0]["nut"]
    assert thresholds == [1, 1.5]
    assert labels.tolist() == [0, 1, 0, 1, 1]
    assert values.tolist() == [0, 1, 0, 0.5, 1]
