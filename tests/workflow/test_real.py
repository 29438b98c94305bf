"""The pipeline on real photographs, held against the plain way of evaluating."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from helpers import REPOSITORY, folder_from_environment

RUN = "results/real/runs/original/{place}/k2/s111/{task}"
PLACES = ("mvtec/hazelnut", "folder/magnetic_tile")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A working directory in which two real classes were trained for 5 epochs."""
    data = folder_from_environment("FSAD_REAL_DATA", "the real images")
    folder = tmp_path_factory.mktemp("real")
    (folder / "config").symlink_to(REPOSITORY / "config")
    sources = {
        "mvtec": f"{{root: {data}/mvtec, classes: [hazelnut]}}",
        "folder": f"{{root: {data}/folder, classes: [magnetic_tile]}}",
    }
    datasets = ", ".join(f"{name}: {source}" for name, source in sources.items())
    command = [sys.executable, "-m", "snakemake", "--cores", "2"]
    command += ["--snakefile", REPOSITORY / "Snakefile", "--configfile"]
    command += [
        REPOSITORY / "config/real.yaml",
        "--config",
        "shots=[2]",
        "seeds=[111]",
        "epochs=5",
    ]
    subprocess.run([*command, f"datasets={{{datasets}}}"], cwd=folder, check=True)
    return folder


def load(folder, pattern):
    """All arrays of the one file that fits."""
    (path,) = folder.glob(pattern)
    return dict(np.load(path))


def textual(features, model):
    """Probability of the abnormal prompt, at the logit scale as it is stored."""
    scale = load_file(REPOSITORY / "config/backbones/demo.safetensors")["logit_scale"]
    logits = scale.item() * features @ model["last_prompts"].T
    return torch.softmax(torch.from_numpy(logits).double(), -1)[..., 1].numpy()


@pytest.mark.parametrize("place", PLACES)
def test_pixel_auroc_is_that_of_plain_maps(real, place):
    test = load(real, f"results/real/features/*/original/{place}/test.npz")
    support = load(real, f"results/real/features/*/original/{place}/support_k2_*.npz")
    masks = load(real, f"results/real/cache/{place}/masks_r256.npz")["masks"]
    folder = real / RUN.format(place=place, task="seg")
    model = load(folder, "model.npz")
    scores = textual(test["patch"], model).reshape(support["visual"].shape)
    grids = torch.from_numpy(1 / (1 / scores + 1 / support["visual"]))
    maps = F.interpolate(grids[:, None], size=256, mode="bilinear")[:, 0].numpy()
    maps = np.stack([gaussian_filter(m, sigma=4) for m in maps])
    ours = json.loads((folder / "metrics.json").read_text())["last"]["pixel_auroc"]
    plain = 100 * roc_auc_score(masks.ravel(), maps.ravel())
    assert ours == pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize("place", PLACES)
def test_image_auroc_is_that_of_plain_scores(real, place):
    test = load(real, f"results/real/features/*/original/{place}/test.npz")
    support = load(real, f"results/real/features/*/original/{place}/support_k2_*.npz")
    folder = real / RUN.format(place=place, task="cls")
    model = load(folder, "model.npz")
    visual = torch.from_numpy(support["visual"])[:, None]
    peaks = F.interpolate(visual, size=256, mode="bilinear").amax((1, 2, 3)).numpy()
    scores = 1 / (1 / peaks + 1 / textual(test["global"], model))
    ours = json.loads((folder / "metrics.json").read_text())["last"]["image_auroc"]
    assert ours == pytest.approx(100 * roc_auc_score(test["labels"], scores), abs=0.1)


def test_masks_lie_on_the_defects(real):
    """Patches under the mask are farther from the good ones than those beside it."""
    support = load(
        real, "results/real/features/*/original/mvtec/hazelnut/support_k2_*.npz"
    )
    masks = load(real, "results/real/cache/mvtec/hazelnut/masks_r256.npz")["masks"]
    visual = support["visual"]
    grid = visual.shape[1:]
    share = [
        cv2.resize(m, grid, interpolation=cv2.INTER_AREA) for m in np.float32(masks)
    ]
    share = np.stack(share)
    assert visual[share > 0.5].mean() > visual[share == 0].mean()
