"""The pipeline on real photographs, held against the plain way of evaluating."""

import json

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from helpers import REPOSITORY, folder_from_environment
from project import Project

RUN = "results/real/runs/{name}/{place}/k2/s111/{task}"
PLACES = ("mvtec/hazelnut", "folder/magnetic_tile")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A working directory in which two real classes were trained for 5 epochs."""
    data = folder_from_environment("FSAD_REAL_DATA", "the real images")
    project = Project(tmp_path_factory.mktemp("real"))
    (project.folder / "config").symlink_to(REPOSITORY / "config")
    project.config = REPOSITORY / "config/real.yaml"
    sources = {
        "mvtec": f"{{root: {data}/mvtec, classes: [hazelnut]}}",
        "folder": f"{{root: {data}/folder, classes: [magnetic_tile]}}",
    }
    datasets = ", ".join(f"{name}: {source}" for name, source in sources.items())
    short = "shots=[2]", "epochs=5", "runs_per_job=all"
    wanted = ("promptad", "seg"), ("promptad", "cls"), ("anomalydino", "cls")
    targets = [
        RUN.format(name=name, place=place, task=task) + "/metrics.json"
        for place in PLACES
        for name, task in wanted
    ]
    project.snakemake(*targets, "--config", *short, f"datasets={{{datasets}}}")
    return project.folder


def load(folder, pattern):
    """All arrays of the one file that fits."""
    (path,) = folder.glob(pattern)
    return dict(np.load(path))


def text_probability(features, model):
    """Probability of the abnormal prompt, at the logit scale as it is stored."""
    scale = load_file(REPOSITORY / "config/backbones/demo.safetensors")["logit_scale"]
    logits = scale.item() * features @ model["last_prompts"].T
    return torch.softmax(torch.from_numpy(logits).double(), -1)[..., 1].numpy()


def memory_distance(folder, place):
    """Maps [N, G, G] of the distance to the two support images, patch by patch."""
    test, support = (
        load(folder, f"results/real/features/*/original/{place}/{name}.npz")
        for name in ("test", "support_s111")
    )
    distances = [
        (
            1
            - (test[name] @ support[name][:2].reshape(-1, test[name].shape[-1]).T).max(
                -1
            )
        )
        / 2
        for name in ("mid1", "mid2")
    ]
    return np.mean(distances, 0)


@pytest.mark.parametrize("place", PLACES)
def test_pixel_auroc_is_that_of_plain_maps(real, place):
    test = load(real, f"results/real/features/*/original/{place}/test.npz")
    masks = load(real, f"results/real/cache/{place}/masks_r256.npz")["masks"]
    folder, memory = (
        real / RUN.format(name="promptad", place=place, task="seg"),
        memory_distance(real, place),
    )
    text = text_probability(test["patch"], load(folder, "model.npz"))
    fused = torch.from_numpy(1 / (1 / text + 1 / memory))
    maps = F.interpolate(fused[:, None], size=256, mode="bilinear")[:, 0].numpy()
    maps = np.stack([gaussian_filter(m, sigma=4) for m in maps])
    ours = json.loads((folder / "metrics.json").read_text())["last"]["pixel_auroc"]
    plain = 100 * roc_auc_score(masks.ravel(), maps.ravel())
    assert ours == pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize("place", PLACES)
def test_image_auroc_is_that_of_plain_scores(real, place):
    test = load(real, f"results/real/features/*/original/{place}/test.npz")
    folder = real / RUN.format(name="promptad", place=place, task="cls")
    memory = torch.from_numpy(memory_distance(real, place))[:, None]
    peaks = F.interpolate(memory, size=256, mode="bilinear").amax((1, 2, 3)).numpy()
    text = text_probability(test["global"], load(folder, "model.npz"))
    scores = 1 / (1 / peaks + 1 / text)
    ours = json.loads((folder / "metrics.json").read_text())["last"]["image_auroc"]
    assert ours == pytest.approx(100 * roc_auc_score(test["labels"], scores), abs=0.1)


@pytest.mark.parametrize("place", PLACES)
def test_anomalydino_is_that_of_plain_nearest_neighbours(real, place):
    """Of all patches of the support images and of their eight rotated copies."""
    test, support = (
        load(real, f"results/real/features/*/tokens-*_rotations8/{place}/{name}.npz")
        for name in ("test", "support_s111")
    )
    assert support["patch"].shape[1] == 8
    patches, bank = (
        F.normalize(torch.from_numpy(x).double().flatten(0, -2), dim=-1)
        for x in (test["patch"], support["patch"][:2])
    )
    cosines = torch.cat([(some @ bank.T).amax(1) for some in patches.split(1000)])
    distances = (1 - cosines).view(len(test["labels"]), -1).sort().values
    scores = distances[:, -max(1, distances.shape[1] // 100) :].mean(1)
    folder = real / RUN.format(name="anomalydino", place=place, task="cls")
    ours = json.loads((folder / "metrics.json").read_text())["last"]["image_auroc"]
    assert ours == pytest.approx(100 * roc_auc_score(test["labels"], scores), abs=0.1)


def test_masks_lie_on_the_defects(real):
    """Patches under the mask are farther from the memory than those beside it."""
    masks = load(real, "results/real/cache/mvtec/hazelnut/masks_r256.npz")["masks"]
    distances = memory_distance(real, "mvtec/hazelnut")
    grid = distances.shape[1:]
    share = [
        cv2.resize(m, grid, interpolation=cv2.INTER_AREA) for m in np.float32(masks)
    ]
    share = np.stack(share)
    assert distances[share > 0.5].mean() > distances[share == 0].mean()
