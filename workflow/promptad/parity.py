"""Recompute a case of the published code: python -m promptad.parity CASE.npz OUT.npz

A case holds inputs and, as JSON under `meta`, every setting; the weights follow a
formula. What is written are this project's values under the published names.
"""

import argparse
import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from promptad import (
    backbone,
    losses,
    maps,
    prompts,
    scores,
    storage,
    text,
    training,
    variants,
    vision,
)
from promptad.transformer import Tower


def formula_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The float32 weight that the formula gives for a parameter of open_clip."""
    if name == "logit_scale":
        return np.array(np.log(100), np.float32)
    state = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    x = state.standard_normal(shape)
    if "ln_" in name:
        x = 1 + 0.1 * x if name.endswith("weight") else 0.1 * x
    else:
        x = x * _scale(name, shape)
    return x.astype(np.float32)


def _scale(name: str, shape: tuple[int, ...]) -> float:
    if "embedding" in name:
        return 0.1
    if name.endswith("bias"):
        return 0.02
    if name in ("visual.proj", "text_projection"):
        return shape[0] ** -0.5
    return (
        float(np.prod(shape[1:] if name == "visual.conv1.weight" else shape[1])) ** -0.5
    )


def formula_towers(config: dict, seed: int) -> tuple[Tower, Tower]:
    """Vision and text tower of an open_clip model configuration, by formula."""
    import open_clip

    clip = open_clip.CLIP(**config)
    state = {
        name: torch.from_numpy(formula_weight(name, tuple(weight.shape), seed))
        for name, weight in clip.state_dict().items()
    }
    clip.load_state_dict(state)
    return backbone.split_towers(clip.eval(), "parity case")


def compute(case: dict[str, np.ndarray], meta: dict) -> dict[str, np.ndarray]:
    """All arrays of a case, by the functions that the pipeline uses."""
    vision_tower, text_tower = formula_towers(meta["model_config"], meta["weight_seed"])
    variant = variants.VARIANTS["original"]
    test, support = (
        vision.embed(vision_tower, torch.from_numpy(case[name]), variant)
        for name in ("test", "support")
    )
    learned, run = _learn(text_tower, support, case, meta)
    predicted = _predict(text_tower, test, support, run.last.prompts, case, meta)
    features = {f"test_{name}": value for name, value in test.items()}
    features |= {f"support_{name}": support[name] for name in ("global", "patch")}
    return {n: np.asarray(v) for n, v in (features | learned | predicted).items()}


def _learn(tower: Tower, support: dict[str, Tensor], case: dict, meta: dict):
    tokens = prompts.tokenize(meta["class_text"], meta["abnormal_states"])
    words, options = text.embed_words(tower, tokens), _options(meta)
    inits = case["normal_ctx_init"], case["abnormal_ctx_init"]
    start = text.Contexts(*(torch.from_numpy(c).requires_grad_() for c in inits))
    features = support["global" if meta["task"] == "cls" else "patch"]
    first = text.encode_prompts(tower, words, start)
    factor = training.temperature(tower, options)
    losses.objective(features, first, factor, meta["lambda1"]).total.backward()
    learner = training.Training(start, features, lambda prompts: ({}, 0))
    [run] = training.fit(tower, words, [learner], options)
    values = {
        "text_normal": first.normal,
        "text_abnormal_manual": first.manual,
        "text_abnormal_learned": first.learned,
        "grad_normal_ctx": start.normal.grad,
        "grad_abnormal_ctx": start.abnormal.grad,
        "normal_ctx_final": run.last.contexts.normal,
        "abnormal_ctx_final": run.last.contexts.abnormal,
        "text_features_final": run.last.prompts,
    }
    values = {name: value.detach() for name, value in values.items()}
    columns = losses.Losses._fields
    values["losses"] = [[row[name] for name in columns] for row in run.history]
    return values, run


def _options(meta: dict) -> dict:
    same = ("epochs", "n_ctx", "n_ctx_ab", "n_pro", "n_pro_ab", "lr", "momentum")
    renamed = {"min_lr": meta["eta_min"], "match_weight": meta["lambda1"]}
    kept = {name: meta[name] for name in (*same, "weight_decay")}
    return kept | renamed | {"eval_every": meta["epochs"], "temperature": "stored"}


def _predict(tower, test, support, text_features, case, meta) -> dict:
    factor, resolution = tower.config["logit_scale"], meta["resolution"]
    visual = scores.visual_maps(test, support)
    images = training.image_evaluator(
        test["global"], visual, case["labels"], factor, resolution
    )
    pixels = training.pixel_evaluator(test["patch"], visual, case["masks"], factor)
    cls_scores, image_auroc = images(text_features)
    seg_grids, pixel_auroc = pixels(text_features)
    plain = torch.from_numpy(maps.bilinear_matrix(visual.shape[-1], resolution))
    return {
        "cls_scores": cls_scores["fused"],
        "cls_maps": scores.resize_maps(visual, plain.float()),
        "cls_text_scores": cls_scores["textual"],
        "seg_maps": maps.full_maps(seg_grids["fused"], resolution),
        "i_roc": image_auroc,
        "p_roc": pixel_auroc,
    }


def main() -> None:
    """Read a case, write what this project computes for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    case = storage.read_npz(arguments.case)
    meta = json.loads(str(case.pop("meta")))
    settings = {name: value for name, value in meta.items() if name != "parameters"}
    storage.write_npz(arguments.out, compute(case, meta), settings)


if __name__ == "__main__":
    main()
