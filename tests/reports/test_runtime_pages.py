import re

import pytest

from fsad.reports import runtime_pages
from reports.contents import run

HEAD = (
    "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
)


def write_benchmark(path, seconds, cpu, memory="100.5"):
    path.parent.mkdir(parents=True, exist_ok=True)
    row = [seconds, "0:00:01", memory, *["1"] * 6, cpu]
    path.write_text("\n".join([HEAD, "\t".join(row)]) + "\n")


def rows(path):
    """Texts of the cells of every row of a page's tables."""
    found = re.findall("<tr>(.*?)</tr>", path.read_text())
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in found]


def test_times_are_summed_up_by_rule(tmp_path):
    jobs = tmp_path / "benchmarks"
    write_benchmark(jobs / "train_cls/original/nut/k1_s1.tsv", "10.0", "5.0")
    write_benchmark(jobs / "train_cls/original/nut/k4_s1.tsv", "30.0", "45.0", "250.2")
    write_benchmark(jobs / "embed_test/original/nut.tsv", "2.0", "2.0")
    write_benchmark(jobs / "demo_backbone.tsv", "0.1", "NA", "-")
    runtime_pages.write_times(tmp_path / "times.html", jobs, 2)
    assert rows(tmp_path / "times.html")[1:] == [
        ["demo_backbone", "1", "0.1", "0.1", "0.1", "–", "–"],
        ["embed_test", "1", "2.0", "2.0", "2.0", "1.0", "100"],
        ["train_cls", "2", "20.0", "30.0", "40.0", "1.0", "250"],
    ]
    assert "Threads of each job: 2" in (tmp_path / "times.html").read_text()


def test_times_without_any_record(tmp_path):
    runtime_pages.write_times(tmp_path / "times.html", tmp_path / "none", 2)
    assert "No job has been recorded" in (tmp_path / "times.html").read_text()


@pytest.fixture
def settings(tmp_path):
    """The rows of the page of settings of three runs."""
    runs = []
    for index, seed in enumerate((1, 2, 3)):
        content = run(
            "bottle", 80, seed=seed, options={"lr": 0.1, "n_pro": None, "of": ["螺丝"]}
        )
        content["settings"]["provenance"] = {"versions": {"torch": f"2.{index % 2}"}}
        runs.append(content)
    runtime_pages.write_settings(tmp_path / "settings.html", runs, ["nut: is <dark>"])
    return rows(tmp_path / "settings.html")


def test_the_support_images_of_the_largest_draw_are_collapsed(tmp_path):
    runs = [run("bottle", 80, shots=k, seed=seed) for k in (2, 1) for seed in (1, 2)]
    runs.append(run("nut", 80, shots=0, seed=1))
    runtime_pages.write_settings(tmp_path / "settings.html", runs, [])
    shown = "good/0.png (00000000), good/1.png (11111111)"
    assert rows(tmp_path / "settings.html")[-4:] == [
        ["data set", "class", "seed", "images"],
        ["mvtec", "bottle", "1", shown],
        ["mvtec", "bottle", "2", shown],
        ["mvtec", "nut", "1", "–"],
    ]
    before, _, after = (tmp_path / "settings.html").read_text().partition("<details>")
    assert "good/0.png" not in before
    assert "good/0.png" in after.partition("</details>")[0]


def test_inputs_in_doubt_come_first(settings):
    assert settings[:2] == [["reason"], ["nut: is &lt;dark&gt;"]]


def test_every_setting_has_all_its_values_once(settings):
    assert ["seed", "1, 2, 3"] in settings
    assert ["torch", "2.0, 2.1"] in settings
    assert ["lr", "0.1"] in settings
    assert ["n_pro", "null"] in settings
    assert ["of", "[&quot;螺丝&quot;]"] in settings
    assert ["backbone", "ViT-B-16_tag"] in settings
