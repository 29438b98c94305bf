"""AUROC of methods on photographs, against random weights and raw pixels.

python tests/benchmarks/detection.py FOLDER: the folder holds the results of two runs of
config/real.yaml, `demo`, and `random` with `pretrained: random` of its backbone; the
script writes detection.json and .md there. Means over the seeds; 4-shot, the model
after the last epoch.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from fsad.artifacts.files import read_npz, write_json, write_text
from fsad.artifacts.paths import fill, results_tree
from fsad.evaluation.metrics import auroc
from fsad.methods.maps import full_maps
from fsad.methods.patches import peak_scores
from fsad.methods.promptad.method import SIGMA
from fsad.reports.formats import markdown_table

SHOTS = 4
METRICS = ("image_auroc", "pixel_auroc")
UNTRAINED = "promptad"  # experiment that is shown with random weights as well
PATCH = 8
BINS = 9
RESOLUTION = 256
CORNERS = (0, 0), (0, 1), (1, 0), (1, 1)
FEW = {"hazelnut", "transistor"}  # two good test images each: shown, but in no mean

MEAN = "mean of these"

Patches = Callable[[np.ndarray], np.ndarray]


def measured(results: Path) -> pd.DataFrame:
    """AUROC by class and metric, a column for each experiment, means over the seeds."""
    table = read_metrics(results)
    wanted = (table["shots"] == SHOTS) & (table["selection"] == "last")
    wanted &= table["metric"].isin(METRICS)
    keys = ["class", "metric", "experiment"]
    means = table[wanted].groupby(keys)["value"].mean().unstack("experiment")
    return means[[*table["experiment"].unique()]]


def read_metrics(results: Path) -> pd.DataFrame:
    """The long table of all metrics of a folder of results."""
    return pd.read_csv(f"{results_tree(results).tables}/metrics.csv")


def raw_patches(images: np.ndarray) -> np.ndarray:
    """Pixels [N, G, G, PATCH * PATCH * 3] of uint8 images [N, S, S, 3], 0 to 1."""
    n, size = images.shape[:2]
    grid = size // PATCH
    cut = images.reshape(n, grid, PATCH, grid, PATCH, 3).swapaxes(2, 3)
    return cut.reshape(n, grid, grid, -1).astype(np.float32) / 255


def hog_patches(images: np.ndarray) -> np.ndarray:
    """Oriented gradients of 2x2 cells of 8 pixels, unit norm, [N, G, G, 36]."""
    cells = np.stack([_cell_histograms(image) for image in images])
    corners = [cells[:, i : i - 1 or None, j : j - 1 or None] for i, j in CORNERS]
    blocks = np.concatenate(corners, -1)
    return blocks / (np.linalg.norm(blocks, axis=-1, keepdims=True) + 1e-3)


def _cell_histograms(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    down, right = np.gradient(grey)
    bins = (np.arctan2(down, right) % np.pi / np.pi * BINS).astype(int) % BINS
    votes = np.hypot(down, right)[..., None] * (bins[..., None] == np.arange(BINS))
    grid = len(image) // PATCH
    return votes.reshape(grid, PATCH, grid, PATCH, BINS).sum((1, 3))


def nearest_maps(test: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Distance of each patch [N, G, G, C] to the nearest support patch, [N, G, G]."""
    bank = torch.from_numpy(support).flatten(0, 2)
    maps = [torch.cdist(x.flatten(0, 1), bank).amin(1) for x in torch.from_numpy(test)]
    return torch.stack(maps).view(test.shape[:3]).numpy()


def baselines(results: Path) -> pd.DataFrame:
    """AUROC of both baselines by class and metric."""
    table = read_metrics(results)
    seeds = sorted(table["seed"].unique())
    places = set(zip(table["dataset"], table["class"], strict=True))
    columns = {}
    for name, patches in (("raw pixels", raw_patches), ("HOG", hog_patches)):
        values = {
            place[1]: baseline(results, place, patches, seeds) for place in places
        }
        columns[name] = pd.DataFrame(values).T.stack()
    return pd.DataFrame(columns).rename_axis(["class", "metric"])


def baseline(
    results: Path, place: tuple[str, str], patches: Patches, seeds: list[int]
) -> dict[str, float]:
    """Image and pixel AUROC of nearest patches on the cached images of a class."""
    tree = results_tree(results)
    keys = {"dataset": place[0], "class_name": place[1]}
    (view,) = square_views(fill(tree.test_images, **keys))
    test = read_npz(fill(tree.test_images, view=view, **keys), "images", "labels")
    masks = read_npz(fill(tree.masks, resolution=RESOLUTION, **keys))["masks"]
    found = []
    for seed in seeds:
        path = fill(tree.support_images, view=view, seed=seed, **keys)
        support = read_npz(path, "images")["images"][:SHOTS, 0]  # without its copies
        maps = nearest_maps(patches(test["images"]), patches(support))
        peaks = peak_scores(torch.from_numpy(maps), RESOLUTION).numpy()
        areas = auroc(masks, full_maps(maps, RESOLUTION, SIGMA))
        found.append((auroc(test["labels"], peaks), areas))
    return dict(zip(METRICS, np.mean(found, 0), strict=True))


def square_views(pattern: str) -> list[str]:
    """Names of the square views of which there is a file of the pattern."""
    before, after = pattern.split("{view}")
    files = Path(before).parent.glob(f"{Path(before).name}px*{after}")
    return [str(file).removeprefix(before).removesuffix(after) for file in files]


def with_means(table: pd.DataFrame) -> pd.DataFrame:
    """Classes that have enough images, their mean, then the other classes."""
    few = table.index.get_level_values("class").isin(FEW)
    means = table[~few].groupby("metric").mean()
    means.index = pd.MultiIndex.from_product([[MEAN], means.index])
    return pd.concat([table[~few], means, table[few]])


def to_markdown(table: pd.DataFrame) -> str:
    """A row for each class, with `image / pixel AUROC` in percent."""
    texts = table.map("{:.1f}".format)
    image, pixel = (texts.xs(metric, level=1) for metric in METRICS)
    cells = (image + " / " + pixel).loc[
        [*dict.fromkeys(table.index.get_level_values(0))]
    ]
    rows = [
        [f"{name} (2 good images)" if name in FEW else name, *row]
        for name, *row in cells.itertuples()
    ]
    return markdown_table(["image / pixel AUROC", *table.columns], rows) + "\n"


def main() -> None:
    """Gather both runs and the baselines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    columns = [measured(folder / "demo")]
    columns += [measured(folder / "random")[[UNTRAINED]].add_suffix(", random weights")]
    columns += [baselines(folder / "demo")]
    table = with_means(pd.concat(columns, axis=1))
    values = {m: rows.droplevel(1).T.to_dict() for m, rows in table.groupby(level=1)}
    write_json(folder / "detection.json", values)
    write_text(folder / "detection.md", to_markdown(table))
    print(to_markdown(table))


if __name__ == "__main__":
    main()
