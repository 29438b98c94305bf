"""Speed and memory of the methods without training, each against a plain way.

python tests/benchmarks/training_free.py FIGURE [--threads N] [--device DEVICE] prints
one of FIGURES as JSON; `bench.py` starts it for each, in a process with its own memory.
Networks have random weights; images and features are drawn at random.
"""

# Before NumPy, for which the package sets how it sorts.
from fsad.jobs.threads import limit_torch_threads

# isort: split
import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from timing import compared, growth, seconds
from torch import Tensor

from fsad.artifacts.files import write_npz
from fsad.artifacts.sources import Source
from fsad.backbones.devices import check_device
from fsad.backbones.embed import BATCH, embed_batch, normalise_pixels
from fsad.backbones.features import FeatureSet, stored_features
from fsad.backbones.load import load_towers
from fsad.backbones.neighbourhoods import pooled
from fsad.backbones.networks import open_network
from fsad.backbones.readout import described, named_readout
from fsad.data.augment import Augment
from fsad.data.views import View
from fsad.evaluation.detector import Detector as NewImages
from fsad.evaluation.inputs import Inputs
from fsad.evaluation.observe import observe, predict
from fsad.evaluation.runs import make_runs
from fsad.evaluation.tasks import Truth
from fsad.methods import winclip
from fsad.methods.base import Detector
from fsad.methods.registry import load

EMBEDDED = 4  # images
NEIGHBOURHOODS = {"layers": "auto", "layer_width": "auto", "patch_width": "auto"}
LAST = {"blocks": "last", "norm": True, "moments": False}
# Side of the images in pixels, and kind and fields of the readout.
NETWORKS = {
    "wide_resnet50_2": (224, "neighbourhoods", NEIGHBOURHOODS),
    "efficientnet_lite0": (256, "neighbourhoods", NEIGHBOURHOODS),
    "vit_small_patch14_dinov2": (448, "tokens", LAST),
}
# Channels and side of the maps of two layers, and the width of layers and patches.
POOLED = {
    "wide_resnet50_2": (((512, 28), (1024, 14)), 1024),
    "efficientnet_lite0": (((40, 32), (112, 16)), 256),
}
IMAGES, GRID = 83, 32  # test images, as many as of MVTec AD's bottle; side in patches
SHOTS, NESTED = 4, (1, 2, 4)
TOP_SHARE = 0.01  # of the patches that AnomalyDINO averages
PRODUCT = 2048  # side of the matrices whose product gives the rate of the machine
STORED = 2000  # test images in a file
# Of WinCLIP with ViT-B-16-plus-240: scale, side of the grid and width, by name.
WINDOWS = {"patch": (1, 15, 896), "windows_2": (2, 14, 640), "windows_3": (3, 13, 640)}


class Case(NamedTuple):
    """A method, its options, width of its features, copies of a support image."""

    method: str
    options: Mapping
    width: int
    copies: int


CASES = {
    "patchcore": Case("patchcore", {"coreset": 1.0, "neighbours": 1}, 256, 1),
    "anomalydino": Case("anomalydino", {"mask": "none"}, 384, 1),
    "anomalydino_rotations": Case("anomalydino", {"mask": "none"}, 384, 8),
}
SHARED = {"resolution": 256, "precision": "float32", "position": "any", "whole": False}


def embedding(device: str) -> dict:
    """Features of 4 images against the network's own forward pass."""
    return {model: network_embedding(model, device) for model in NETWORKS}


def network_embedding(model: str, device: str) -> dict:
    """The same, of one network."""
    size, kind, fields = NETWORKS[model]
    backbone = {"library": "timm", "model": model, "image_size": size}
    backbone |= {"pretrained": "random", "random_seed": 0}
    network = open_network(load_towers(backbone)["vision"].to(device, "float32"))
    readout = named_readout(kind, View("square", size), Augment(), fields)
    shape = EMBEDDED, size, size, 3
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    @torch.inference_mode()
    def forward() -> Tensor:
        return network.module(normalise_pixels(images, network.tower))

    return compared(lambda: embed_batch(network, images, readout), forward, 5)


@torch.inference_mode()
def pooling(device: str) -> dict:
    """Neighbourhoods of 4 images by closed form against the two adaptive poolings."""
    found = {}
    for model, (layers, width) in POOLED.items():
        maps = [torch.randn(EMBEDDED, c, n, n, device=device) for c, n in layers]
        ours, plain = partial(pooled, maps, width, width), partial(two_poolings, maps)
        close = partial(torch.testing.assert_close, rtol=0, atol=1e-5)
        found[model] = compared(ours, partial(plain, width), 5, close)
    return found


def two_poolings(maps: Sequence[Tensor], width: int) -> Tensor:
    """PatchCore's published steps, [B, h, w, width]."""
    layers, grid = [], maps[0].shape[2:]
    for layer in maps:
        x = F.unfold(layer, 3, padding=1).unflatten(2, layer.shape[2:])
        if x.shape[2:] != grid:
            x = F.interpolate(x, grid, mode="bilinear", align_corners=False)
        x = x.permute(0, 2, 3, 1).flatten(0, 2)  # (B * h * w, 9 * C)
        layers.append(F.adaptive_avg_pool1d(x[:, None], width))
    features = F.adaptive_avg_pool1d(torch.cat(layers, 2), width)
    return features.view(len(maps[0]), *grid, width)


def searches(device: str) -> dict:
    """Fit and scores of 83 images, 4-shot, against one plain product a block."""
    return {name: search(case, device) for name, case in CASES.items()}


def search(case: Case, device: str) -> dict:
    """The same, of one method, with the share of the machine's rate of products."""
    test, support = drawn(case)
    module = load(case.method)

    def ours() -> Tensor:
        detector = fitted(case, support, device)
        (observed,) = observe([detector], test, module.observe_all)
        return predict(detector, observed, SHARED["resolution"]).scores

    def plain() -> Tensor:
        bank = torch.from_numpy(support["patch"]).to(device).flatten(0, -2).float()
        blocks = (torch.from_numpy(b["patch"]).to(device) for *_, b in test.blocks())
        scores = PLAIN[case.method]
        return torch.cat([scores(b.flatten(1, 2).float(), bank) for b in blocks])

    close = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-4)
    before = product_rate(device)
    found = compared(ours, plain, 1, close)
    rate = (before + product_rate(device)) / 2
    patches = GRID * GRID
    work = 2 * IMAGES * patches * SHOTS * case.copies * patches * case.width
    share = work / found["ours_seconds"] / rate
    return found | {"product_gflops": rate / 1e9, "product_share": share}


def drawn(case: Case) -> tuple[FeatureSet, dict[str, np.ndarray]]:
    """Features of test images, and of the support images of the largest draw."""
    generator, patches = np.random.default_rng(0), (GRID, GRID, case.width)
    copies = (case.copies,) * (case.method == "anomalydino")
    test, support = (
        generator.standard_normal((*shape, *patches), np.float32).astype(np.float16)
        for shape in ((IMAGES,), (SHOTS, *copies))
    )
    rows = np.arange(IMAGES)
    starts = range(0, IMAGES, BATCH)

    def blocks():
        for start in starts:
            some = slice(start, start + BATCH)
            yield 0, some, {"patch": test[some]}

    found = FeatureSet(rows % 2, rows.astype(str), [rows], blocks)
    return found, {"patch": support}


def windows(device: str) -> dict:
    """Scores and maps of 83 images from WinCLIP's features, 4-shot, against plain
    products."""
    test, support = drawn_windows(IMAGES), drawn_windows(SHOTS)
    directions = torch.randn(2, 640, device=device)
    options = {**SHARED, "scales": [2, 3], "device": device}
    learned = {"directions": directions}
    detector = winclip.restore("cls", options, support, learned)
    blocks = [
        {name: x[start : start + BATCH] for name, x in test.items()}
        for start in range(0, IMAGES, BATCH)
    ]

    def of_all(predict: Callable[[Mapping], Sequence[Tensor]]) -> list[Tensor]:
        return [torch.cat(x) for x in zip(*map(predict, blocks), strict=True)]

    def ours(block: Mapping) -> Sequence[Tensor]:
        return detector.predict(detector.observe(block))[:2]

    plain = partial(window_predictions, support=support, directions=directions)
    close = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-4)
    return compared(partial(of_all, ours), partial(of_all, plain), 3, close)


def drawn_windows(count: int) -> dict[str, np.ndarray]:
    """Features of so many images, as they are stored."""
    generator = np.random.default_rng(count)
    shapes = {name: (side, side, width) for name, (_, side, width) in WINDOWS.items()}
    shapes["global"] = (640,)
    return {
        name: generator.standard_normal((count, *shape), np.float32).astype(np.float16)
        for name, shape in shapes.items()
    }


@torch.inference_mode()
def window_predictions(
    test: Mapping, support: Mapping, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores [B] and maps of WinCLIP by one product with each whole bank."""
    device = directions.device

    def unit(values: np.ndarray | Tensor) -> Tensor:
        return F.normalize(torch.as_tensor(values).to(device).float(), dim=-1)

    def text_scores(name: str) -> Tensor:
        cosines = unit(test[name]) @ unit(directions).T
        return torch.softmax(cosines / winclip.TEMPERATURE, -1)[..., 1]

    text, maps = text_scores("global"), []
    terms = [1 / text[:, None, None]]
    for name, (scale, _, _) in WINDOWS.items():
        products = unit(test[name]).flatten(1, 2) @ unit(support[name]).flatten(0, 2).T
        distances = (1 - products.amax(-1)).view(test[name].shape[:3]) / 2
        maps.append(harmonic_means(distances, scale))
        if scale > 1:
            terms.append(1 / harmonic_means(text_scores(name), scale))
    near = sum(maps) / len(maps)
    text_maps = len(terms) / sum(terms)
    return (text + near.amax((1, 2))) / 2, (text_maps + near) / 2


def harmonic_means(values: Tensor, scale: int) -> Tensor:
    """Harmonic mean, for each patch, of the windows [B, rows, columns] that hold it."""
    kernel = torch.ones(1, 1, scale, scale, device=values.device)
    held = [torch.ones_like(values), 1 / values]
    counts, sums = (F.conv_transpose2d(x[:, None], kernel)[:, 0] for x in held)
    return counts / sums


def fitted(case: Case, support: Mapping[str, np.ndarray], device: str) -> Detector:
    """A detector of the method."""
    options = {**SHARED, **case.options, "device": device}
    method = load(case.method).create("cls", options, None)
    (step,) = method.fit(support, (0, 0))
    return step.detector


def patchcore_scores(patches: Tensor, bank: Tensor) -> Tensor:
    """Scores [B] of patches [B, P, T] by torch.cdist."""
    nearest = torch.cdist(patches.flatten(0, 1), bank).amin(1).square()
    return nearest.view(patches.shape[:2]).amax(1)


def anomalydino_scores(patches: Tensor, bank: Tensor) -> Tensor:
    """Scores [B] of patches [B, P, D] by one product with the whole bank."""
    patches, bank = F.normalize(patches, dim=-1), F.normalize(bank, dim=-1)
    nearest = 1 - (patches.flatten(0, 1) @ bank.T).amax(1)
    count = int(TOP_SHARE * patches.shape[1])
    return nearest.view(patches.shape[:2]).topk(count).values.mean(1)


PLAIN = {"patchcore": patchcore_scores, "anomalydino": anomalydino_scores}


def product_rate(device: str) -> float:
    """Operations a second of torch.mm, a multiplication and an addition being two."""
    one, other, out = torch.randn(3, PRODUCT, PRODUCT, device=device)
    return 2 * PRODUCT**3 / seconds(lambda: torch.mm(one, other, out=out), 5)


def nested(device: str) -> dict:
    """1, 2 and 4 shots of one draw in one search against three searches."""
    return {n: nested_draws(CASES[n], device) for n in ("patchcore", "anomalydino")}


def nested_draws(case: Case, device: str) -> dict:
    """The same, of one method."""
    test, support = drawn(case)
    module: ModuleType = load(case.method)
    draws = ({"patch": support["patch"][:count]} for count in NESTED)
    detectors = [fitted(case, draw, device) for draw in draws]

    def each() -> list:
        return [observe([x], test, module.observe_all) for x in detectors]

    return compared(lambda: observe(detectors, test, module.observe_all), each, 1)


def stored(device: str) -> dict:
    """Memory that a job takes to score 2,000 images from a file of features."""
    with tempfile.TemporaryDirectory() as folder:
        few, all_of_them = (Path(folder, str(count)) for count in (BATCH, STORED))
        make_runs(*stored_run(few, BATCH, device))
        run = stored_run(all_of_them, STORED, device)
        size = (all_of_them / "test.npz").stat().st_size
        _, grown = growth(lambda: make_runs(*run))
    megabytes = {"file_mb": size / 2**20, "grown_mb": grown / 2**20}
    return {"images": STORED, **megabytes, "ratio": size / grown}


def stored_run(folder: Path, count: int, device: str) -> tuple:
    """A 1-shot AnomalyDINO on a file of so many images, copies of one, and what it
    reads; it is not calibrated, as no image passes a network."""
    readout = named_readout("tokens", View("square", GRID * 14), Augment(), LAST)
    described_as = {"readout": described(readout)}
    width = 384
    image = np.random.default_rng(0).standard_normal((1, GRID, GRID, width), np.float32)
    patch = np.broadcast_to(image.astype(np.float16), (count, *image.shape[1:]))
    rows = np.arange(count)
    truth = {"labels": (rows % 2).astype(np.uint8), "names": rows.astype(str)}
    write_npz(folder / "test.npz", {"patch": patch, **truth}, described_as)
    support = -image[:, None].astype(np.float16)
    options = {**SHARED, **CASES["anomalydino"].options, "device": device}
    record = {"stage": "run", "module": "fsad.methods.anomalydino", "task": "cls"}
    record |= {"class": "drawn", "seed": 0, "shots": 1, "options": options}
    inputs = Inputs(
        test=stored_features(Source(folder / "test.npz", described_as)),
        support=lambda _: {"patch": support},
        detector=lambda _, fitted: NewImages(None, readout, fitted, {}),
        text=None,
        truth=Truth(truth["labels"], None),
    )
    return [(folder / "run", record)], inputs


FIGURES: dict[str, Callable[[str], dict]] = {
    work.__name__: work
    for work in (embedding, pooling, searches, nested, stored, windows)
}


def main() -> None:
    """Print one figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = parser.parse_args()
    check_device(arguments.device)
    limit_torch_threads(arguments.threads)
    print(json.dumps(FIGURES[arguments.figure](arguments.device), indent=2))


if __name__ == "__main__":
    main()
