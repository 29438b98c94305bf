"""Parity cases of WinCLIP, from images and words to maps."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fsad.backbones.embed import embed_batch
from fsad.backbones.networks import open_network
from fsad.backbones.readout import Readout
from fsad.backbones.tower import Tower
from fsad.data.augment import Augment
from fsad.data.ensemble import sentences
from fsad.data.views import View
from fsad.data.words import padded, token_numbers
from fsad.methods import winclip
from fsad.methods.maps import full_maps
from fsad.methods.memory import nearest
from fsad.reference.parity_clip import formula_towers

OPTIONS = {"device": "cpu", "precision": "float32", "position": "any"}


def compute(case: Mapping[str, np.ndarray], meta: Mapping) -> dict[str, np.ndarray]:
    """All arrays of a case by their published names."""
    vision, text = formula_towers(meta["model_config"], meta["weight_seed"])
    view = View("square", case["test"].shape[1])
    fields = {"scales": meta["scales"], "norm": True}
    readout = Readout("case", "windows", view, Augment(), fields)
    network = open_network(vision)
    test, support = (
        embed_batch(network, case[name], readout) for name in ("test", "support")
    )
    directions = _directions(text, meta)
    detector = winclip.restore(
        "cls", OPTIONS | meta, support, {"directions": directions}
    )
    observed = detector.observe(test)
    scores, maps, _ = detector.predict(observed)
    found = _embedded(test, meta) | _compared(test, support, directions, meta)
    found |= {
        "text_features": directions,
        "image_scores_zero": observed["text_scores"],
        "text_map": observed["text_maps"],
        "grid_map": maps,
        "maps": full_maps(maps.numpy(), view.size, detector.sigma),
        "image_scores": scores,
    }
    if meta["k_shot"]:
        found["visual_map"] = observed["distances"]
    return {name: np.asarray(value) for name, value in found.items()}


def _directions(tower: Tower, meta: Mapping) -> Tensor:
    """Means of the sentences of a case; `token_numbers` adds their full stop."""
    templates = [template.removesuffix(".") for template in meta["templates"]]
    means = []
    for group in ("normal_states", "anomalous_states"):
        phrases = sentences(meta["class_text"], meta[group], templates)
        start, rows = token_numbers(phrases)
        rows = torch.from_numpy(padded(rows))
        means.append(winclip.mean_feature(tower, start, rows))
    return torch.stack(means)


def _embedded(test: Mapping[str, Tensor], meta: Mapping) -> dict[str, Tensor]:
    """Features of the test images, with patches and windows in one axis."""
    scales = {f"window_embeddings_{s}": test[f"windows_{s}"] for s in meta["scales"]}
    grids = {"patch_embeddings": test["patch"], **scales}
    rows = {name: feature.flatten(1, 2) for name, feature in grids.items()}
    return {"image_embeddings": test["global"], **rows}


def _compared(
    test: Mapping, support: Mapping, directions: Tensor, meta: Mapping
) -> dict[str, Tensor]:
    """Scores and maps of each scale."""
    found = {}
    for scale in meta["scales"]:
        scores = winclip.text_scores(test[f"windows_{scale}"], directions)
        found[f"window_scores_{scale}"] = scores.flatten(1)
        found[f"text_map_{scale}"] = winclip.over_patches(scores, scale)
    for scale in (1, *meta["scales"]) if meta["k_shot"] else ():
        name = "patch" if scale == 1 else f"windows_{scale}"
        bank, grid = support[name].flatten(0, 2), test[name].shape[1:3]
        (distances,) = nearest(test[name].flatten(1, 2), [bank], "cosine")
        halves = (distances / 2).unflatten(1, grid)
        found[f"visual_map_{scale}"] = winclip.over_patches(halves, scale)
    return found
