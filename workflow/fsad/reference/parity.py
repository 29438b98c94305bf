"""Parity cases of published code, computed with the functions of the pipeline.

Those of PromptAD are here, those of other methods, which name it, in `parity_runs` and
`parity_winclip`.

A case is a file of inputs and, as JSON under `meta`, every setting; the weights follow
a formula. The result has the values of the pipeline under the published names.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fsad.artifacts.files import read_npz, write_npz
from fsad.backbones.clip_text import Contexts, embed_words, encode_prompts
from fsad.backbones.clip_vision import embed
from fsad.backbones.readout import VARIANTS
from fsad.backbones.tower import Tower
from fsad.data.words import tokenize
from fsad.errors import UserError
from fsad.evaluation.tasks import TASKS, Truth
from fsad.methods.maps import full_maps
from fsad.methods.promptad.losses import objective
from fsad.methods.promptad.method import COMPARED, MEMORY, SIGMA, PromptADDetector
from fsad.methods.promptad.training import learn, logit_scale
from fsad.reference import parity_runs, parity_winclip
from fsad.reference.parity_clip import formula_towers


def write_parity(case: Path, out: Path) -> None:
    """Compute a case and write its arrays; UserError if the case cannot be read."""
    meta = json.loads(str(read_npz(case, "meta")["meta"]))
    settings = {name: value for name, value in meta.items() if name != "parameters"}
    method = meta.get("method", "PromptAD")
    if method not in COMPUTE:
        known = ", ".join(COMPUTE)
        raise UserError(f"{case}: is of {method}; cases of {known} are known")
    write_npz(out, COMPUTE[method](read_npz(case), meta), settings)


def compute(case: dict[str, np.ndarray], meta: dict) -> dict[str, np.ndarray]:
    """Compute all arrays of a case with the functions of the pipeline."""
    vision, text = formula_towers(meta["model_config"], meta["weight_seed"])
    images = (torch.from_numpy(case[name]) for name in ("test", "support"))
    test, support = (embed(vision, x, VARIANTS["original"]) for x in images)
    known = _in_rows(support)
    found, learned = _learn(text, known[COMPARED[meta["task"]]], case, meta)
    found |= _predict(test, support, learned, case, meta)
    found |= {f"test_{name}": value for name, value in _in_rows(test).items()}
    found |= {f"support_{name}": known[name] for name in ("global", "patch")}
    return {name: np.asarray(value) for name, value in found.items()}


def _in_rows(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Features with the patches of an image in one axis, as published."""
    return {n: x.flatten(1, -2) if x.ndim > 2 else x for n, x in features.items()}


def _learn(
    tower: Tower, features: Tensor, case: dict, meta: dict
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Train as the case does; arrays by published names, and the learned detector's.

    The text features and gradients are those before the training.
    """
    words = embed_words(tower, tokenize(meta["class_text"], meta["abnormal_states"]))
    options = _options(meta)
    initial = case["normal_ctx_init"], case["abnormal_ctx_init"]
    start = Contexts(*(torch.from_numpy(c).requires_grad_() for c in initial))
    first = encode_prompts(tower, words, start)
    scale = logit_scale(tower, options)
    objective(features, first, scale, meta["lambda1"]).total.backward()
    epochs = list(learn(tower, words, start, features, options))
    contexts, prompts = epochs[-1].contexts, epochs[-1].prompts
    values = {
        "text_normal": first.normal,
        "text_abnormal_manual": first.manual,
        "text_abnormal_learned": first.learned,
        "grad_normal_ctx": start.normal.grad,
        "grad_abnormal_ctx": start.abnormal.grad,
        "normal_ctx_final": contexts.normal,
        "abnormal_ctx_final": contexts.abnormal,
        "text_features_final": prompts,
        "losses": torch.stack([epoch.losses for epoch in epochs]),
    }
    learned = {
        "prompts": prompts,
        "logit_scale": torch.tensor(scale, dtype=torch.float64),
    }
    return {name: value.detach() for name, value in values.items()}, learned


def _options(meta: Mapping) -> dict:
    """Options of the pipeline by the names of a case; others are not read."""
    renamed = {"min_lr": meta["eta_min"], "match_weight": meta["lambda1"]}
    return {**meta, **renamed, "eval_every": meta["epochs"], "temperature": "stored"}


def _predict(test: dict, support: dict, learned: dict, case: dict, meta: dict) -> dict:
    """Scores and maps of both tasks, and their AUROC."""
    resolution, truth = meta["resolution"], Truth(case["labels"], case["masks"])
    memory, found, aurocs = {name: support[name] for name in MEMORY}, {}, {}
    for task in COMPARED:
        detector = PromptADDetector(task, resolution, "any", memory, learned)
        found[task] = detector.predict(detector.observe(test))
        auroc = TASKS[task].auroc(truth, found[task].maps.device, SIGMA)
        aurocs[task] = auroc(TASKS[task].values(found[task]))
    return {
        "cls_scores": found["cls"].scores,
        "cls_maps": full_maps(found["cls"].maps.numpy(), resolution, sigma=0),
        "cls_text_scores": found["cls"].components["text_probability"],
        "seg_maps": full_maps(found["seg"].maps.numpy(), resolution, SIGMA),
        "i_roc": aurocs["cls"],
        "p_roc": aurocs["seg"],
    }


COMPUTE = {
    "PromptAD": compute,
    "winclip": parity_winclip.compute,
    **dict.fromkeys(parity_runs.COMPUTE, parity_runs.compute),
}
