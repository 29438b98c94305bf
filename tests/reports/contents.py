"""Contents of metrics.json, stored as the pipeline does, and pages read back."""

import base64
import csv
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from fsad.artifacts.files import write_npz, write_record
from fsad.artifacts.paths import SCORES, Run, results_tree, run_path
from fsad.evaluation.metrics import METRICS

SCORED = {
    "names": np.array(["good/0.png", "good/1.png", "hole/0.png", "scratch/0.png"]),
    "labels": np.array([0, 0, 1, 1]),
    "last_scores": np.array([0.1, 0.3, 0.2, 0.4], np.float32),
}


def run(name, value, task="cls", shots=1, seed=1, *, best=0.0, **keys):
    """A metrics.json: every metric `value`, that much more for `best`."""
    names = METRICS[task]
    settings = {"experiment": "original", "dataset": "mvtec", "class": name}
    settings |= {"task": task, "shots": shots, "seed": seed}
    settings |= {"method": "promptad", "backbone": "ViT-B-16_tag", "code": "now"}
    settings |= {"options": {"epochs": 10, "resolution": 256}}
    settings |= {"support": [[f"good/{i}.png", f"{i}" * 64] for i in range(shots)]}
    settings |= keys
    components = {"text_probability": value - 20, "memory_distance": value - 10}
    last = {"epoch": 10, **dict.fromkeys(names, value), "components": components}
    higher = {"epoch": 5, **dict.fromkeys(names, value + best)}
    found = {"last": last, "best": last | higher, "settings": settings}
    return found | {"threshold": 0.25 * shots}


def key(content) -> Run:
    """The key of a run."""
    settings = content["settings"]
    keys = {name: settings.get(name) for name in Run._fields}
    return Run(**keys | {"class_name": settings["class"]})


def store(results, content) -> Path:
    """Write metrics.json and scores.npz of a run at its place."""
    path = Path(run_path(results_tree(results).metrics, key(content)))
    write_npz(path.parent / SCORES, SCORED, content["settings"])
    write_record(path, content)
    return path


def store_all(results, contents) -> dict[Path, dict]:
    """Write several; their records by path."""
    return {store(results, content): content["settings"] for content in contents}


def rows(path) -> list[dict]:
    """The rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def words(svg) -> list[str]:
    """The texts of a figure."""
    found = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return [element.text for element in found]


def pictures(path) -> dict[str, str]:
    """The SVG pictures of a page by their titles."""
    text = path.read_text()
    found = re.findall(
        r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,(.*?)"', text
    )
    return {alt: base64.b64decode(data).decode() for alt, data in found}
