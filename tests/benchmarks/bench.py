"""Speed, each figure a ratio of this project to the plain way in one run.

python tests/benchmarks/bench.py DATA OUT: DATA holds a class folder `bottle`; one JSON
file per figure and summary.json go to OUT. Random weights of the full-size backbone.
With --device cuda everything but the last AUROC is computed on the GPU, both ways.
"""

# Before NumPy, for which the package sets how it sorts.
from fsad.jobs.threads import limit_torch_threads

# isort: split
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from fsad.artifacts import files
from fsad.artifacts.provenance import origin
from fsad.backbones import clip_text, embed
from fsad.backbones.clip import load_clip, split_towers
from fsad.backbones.clip_vision import normalise_pixels
from fsad.backbones.devices import captured, check_device
from fsad.backbones.readout import VARIANTS
from fsad.backbones.transformer import placed, save_tower, tower_device
from fsad.data import images, layouts, words
from fsad.evaluation import metrics
from fsad.methods.promptad import losses, scores
from fsad.methods.promptad.training import Contexts, initial_contexts, pixel_evaluator
from fsad.reference import published

BACKBONE = {"model": "ViT-B-16-plus-240", "pretrained": "random", "random_seed": 0}
ORIGINAL = VARIANTS["original"]
STATES = [
    "damaged {}",
    "flawed {}",
    "abnormal {}",
    "imperfect {}",
    "blemished {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
    "{} with large breakage",
    "{} with small breakage",
    "{} with contamination",
]
OPTIONS = {
    "lr": 0.002,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "min_lr": 0.00001,
    "match_weight": 0.001,
    "temperature": "stored",
    "n_ctx": 4,
    "n_ctx_ab": 1,
    "n_pro": 1,
    "n_pro_ab": 4,
    "epochs": 100,
    "eval_every": 5,
    "resolution": 256,
    "seed": 111,
    "precision": "float32",
}
SHOTS = 2
EMBEDDED = 16


class Caches(NamedTuple):
    """The folder of a class's cached files, and the device its jobs compute on."""

    folder: Path
    device: str


class Started(NamedTuple):
    """A training job under way, its log, and when it was started."""

    process: subprocess.Popen
    log: Path
    at: float


def seconds(work, repeat: int) -> float:
    """Median wall time of `work`, after one call that does not count."""
    work()
    return statistics.median(timed(work) for _ in range(repeat))


def timed(work) -> float:
    """Wall time of one call, and of what it leaves to the GPU."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def against(ours: float, other: float) -> dict:
    """Both times and how many times faster ours is."""
    return {"ours_seconds": ours, "plain_seconds": other, "ratio": other / ours}


def text_step(clip, tower, threads: int) -> dict:
    """One cls step (3 normal contexts, 48 sequences) against 77 tokens for each."""
    result = {}
    for number in sorted({1, threads}):
        torch.set_num_threads(number)
        ours, other = step_seconds(tower), plain_step_seconds(clip)
        result[f"threads_{number}"] = against(ours, other)
    for count in (5, 11, 22):
        states = (STATES * 2)[:count]
        result[f"states_{count}"] = {"ours_seconds": step_seconds(tower, states)}
    return result | {"ratio": result[f"threads_{threads}"]["ratio"]}


def step_inputs(task: str, start: torch.Tensor) -> tuple[Contexts, torch.Tensor]:
    """Contexts that take gradients, and features of two support images, lying where
    the embedded [SOS] token does."""
    n_pro, shape = {"cls": (3, (2, 640)), "seg": (1, (2, 225, 640))}[task]
    drawn = initial_contexts(OPTIONS | {"n_pro": n_pro}, len(start), 0)
    contexts = Contexts(*(c.to(start.device).requires_grad_() for c in drawn))
    seen = torch.randn(shape, device=start.device)
    return contexts, torch.nn.functional.normalize(seen, dim=-1)


def step_seconds(
    tower, states: Sequence[str] = STATES, tasks: Sequence[str] = ("cls",)
) -> float:
    """Our step of one training, or of several in one pass."""
    words = clip_text.embed_words(tower, words.tokenize("bottle", states))
    several, seen = zip(*(step_inputs(t, words.start) for t in tasks), strict=True)
    learned = [context for contexts in several for context in contexts]
    factor, weight = tower.config["logit_scale"], OPTIONS["match_weight"]

    def step():
        encoded = clip_text.encode_together(tower, words, several)
        terms = [
            losses.objective(features, one, factor, weight).total
            for features, one in zip(seen, encoded, strict=True)
        ]
        return torch.autograd.grad(sum(terms), learned)

    return seconds(captured(step, tower), 5)


def plain_step_seconds(clip) -> float:
    """The same step, every sequence padded to the context length."""
    tokens = words.tokenize("bottle", STATES)
    contexts, seen = step_inputs("cls", clip.token_embedding.weight[0])
    return seconds(lambda: published.step(clip, tokens, contexts, seen), 2)


def half(towers, test: dict) -> dict:
    """bfloat16 against float32: a text step, and the features of 16 images."""
    some = {name: array[:EMBEDDED] for name, array in test.items()}
    device = str(tower_device(towers[0]))
    halves = [placed(tower, device, "bfloat16") for tower in towers]
    steps = [step_seconds(tower) for tower in (halves[1], towers[1])]
    embeddings = [
        seconds(lambda tower=tower: embed.embed_test(tower, some, ORIGINAL), 3)
        for tower in (halves[0], towers[0])
    ]
    return {"text_step": against(*steps), "embedding": against(*embeddings)}


def together(caches: Caches, tower, threads: int) -> dict:
    """1, 2 and 4 shots of both tasks in one pass against one by one: a step, and
    whole jobs of ten epochs, start-up included."""
    alone = 3 * sum(step_seconds(tower, tasks=[task]) for task in ("cls", "seg"))
    step = against(step_seconds(tower, tasks=["cls", "seg"] * 3), alone)
    one_by_one = sum(job(caches, threads, [t], 10)["seconds"] for t in ("cls", "seg"))
    whole = job(caches, threads, ["cls", "seg"] * 3, 10)["seconds"]
    return {"step": step, "job": against(whole, 3 * one_by_one)}


def embedding(clip, tower, test: dict) -> dict:
    """All features of 16 images against open_clip's encode_image of them."""
    some = {name: array[:EMBEDDED] for name, array in test.items()}
    batches = torch.from_numpy(some["images"]).split(8)

    @torch.inference_mode()
    def encode():
        for batch in batches:
            clip.encode_image(normalise_pixels(batch.numpy(), tower))

    ours = seconds(lambda: embed.embed_test(tower, some, ORIGINAL), 3)
    return against(ours, seconds(encode, 3))


def evaluation(tower, samples, seen, known, masks, directions, factor) -> dict:
    """One scheduled pixel evaluation against the published one at R = 400."""
    result, device = {}, directions.device
    for count in (len(samples) // 4, len(samples) // 2, len(samples)):
        part = torch.from_numpy(seen["patch"][-count:]).to(device)
        visual = torch.from_numpy(known["visual"][-count:]).to(device)
        evaluate = pixel_evaluator(part, visual, masks[-count:], factor)
        ours = seconds(lambda evaluate=evaluate: evaluate(directions), 5)
        result[f"images_{count}"] = {"ours_seconds": ours}
    memory = embed.memory_tensors(known, device)
    see = partial(published.see, tower, variant=ORIGINAL)
    compared = see, samples, memory, directions, factor, "seg"
    other = timed(lambda: published.evaluate(*compared))
    return result | against(ours, other)


def visual(seen: dict, known: dict, device: str) -> dict:
    """The visual maps of all test images with 1, 2 and 4 support images."""
    test, memory = (embed.memory_tensors(x, device) for x in (seen, known))
    result = {}
    for shots in (1, 2, 4):
        bank = {name: mids[:1].repeat(shots, 1, 1) for name, mids in memory.items()}
        ours = seconds(lambda bank=bank: scores.visual_maps(test, bank), 2)
        result[f"shots_{shots}"] = {"ours_seconds": ours}
    return result


def auroc(masks: np.ndarray) -> dict:
    """Exact pixel AUROC of random maps against scikit-learn's."""
    maps = np.random.default_rng(0).random(masks.shape, np.float32)
    ours = seconds(lambda: metrics.auroc(masks, maps), 3)
    return against(ours, timed(lambda: roc_auc_score(masks.ravel(), maps.ravel())))


JOB = """
import json, sys
from fsad.jobs.job import job
from fsad.evaluation.runs import run_from_files
folder, settings, threads = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
tower, prompts, test, support, masks = sys.argv[4:]
folders = [f"{folder}/run{i}" for i in range(len(settings))]
supports = [support] * len(settings)
with job(f"{folder}/log", threads, torch=threads):
    run_from_files(folders, settings, tower, prompts, test, supports, masks)
    print(open("/proc/self/status").read())
"""


def job(caches: Caches, threads: int, tasks: Sequence[str], epochs: int) -> dict:
    """A whole training job from cached files, start-up included."""
    return finish_job(start_job(caches, "job", threads, tasks, epochs))


def start_job(
    caches: Caches, name: str, threads: int, tasks: Sequence[str], epochs: int
) -> Started:
    """Start a training job on cached files."""
    start, out = time.perf_counter(), caches.folder / name
    out.mkdir(exist_ok=True)
    names = ["text.safetensors", "prompts.npz", "test.npz", "support.npz", "masks.npz"]
    n_pro = {"cls": 3, "seg": 1}
    about = {"dataset": "mvtec", "class": "bottle", "variant": "original"}
    about |= {"shots": SHOTS, "seed": OPTIONS["seed"]}
    options = OPTIONS | {"device": caches.device, "epochs": epochs}
    settings = [
        {"task": t, **about, "options": options | {"n_pro": n_pro[t]}} for t in tasks
    ]
    command = [sys.executable, "-c", JOB, out, json.dumps(settings)]
    command += [str(threads), *(caches.folder / name for name in names)]
    return Started(subprocess.Popen(command), out / "log", start)


def finish_job(started: Started) -> dict:
    """Wall seconds since its start, cores it used of them, and its peak memory."""
    _, exit_status, usage = os.wait4(started.process.pid, 0)
    assert exit_status == 0, started.log.read_text()
    wall = time.perf_counter() - started.at
    cores = (usage.ru_utime + usage.ru_stime) / wall
    # Not ru_maxrss: its peak is that of this process, which the job was forked from.
    lines = started.log.read_text().splitlines()
    peak = next(line for line in lines if "VmHWM" in line)
    return {"seconds": wall, "cores": cores, "peak_mb": int(peak.split()[1]) / 1024}


def cores(caches: Caches, threads: int) -> dict:
    """What a seg job of ten epochs uses with 1 and more threads, and what two jobs of
    one thread at once take longer than one."""
    result = {
        f"threads_{number}": job(caches, number, ["seg"], 10)
        for number in sorted({1, threads})
    }
    both = [start_job(caches, f"job{i}", 1, ["seg"], 10) for i in range(2)]
    slowest = max(finish_job(started)["seconds"] for started in both)
    return result | {"two_at_once": slowest / result["threads_1"]["seconds"]}


def prepare(data: Path, folder: Path, towers, threads: int) -> tuple:
    """Caches of bottle as the pipeline makes them; also returned."""
    files = layouts.list_class("mvtec", data, "bottle")
    size = towers[0].config["image_size"]
    test = images.load_images(files.test, size, threads)
    support = images.load_images(files.train[:SHOTS], size, threads)
    masks = images.load_masks(files.test, OPTIONS["resolution"], threads)
    seen = embed.embed_test(towers[0], test, ORIGINAL)
    known = embed.embed_support(towers[0], support, seen, ORIGINAL)
    tokens = words.tokenize("bottle", STATES)
    arrays = {
        "prompts": (tokens, "tokenize_prompts"),
        "test": (seen, "embed_test"),
        "support": (known, "embed_support"),
        "masks": (masks, "preprocess_masks"),
    }
    for name, (content, script) in arrays.items():
        files.write_npz(folder / f"{name}.npz", content, origin(f"{script}.py"))
    save_tower(folder / "text.safetensors", towers[1], origin("backbone.py"))
    return files.test, test, seen, known, masks["masks"]


def main() -> None:
    """Measure everything, write it, print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = parser.parse_args()
    out, threads, device = arguments.out, arguments.threads, arguments.device
    check_device(device)
    limit_torch_threads(threads)
    clip = load_clip(BACKBONE).to(device)
    towers = split_towers(clip, BACKBONE["model"])
    caches = Caches(out / "work", device)
    prepared = prepare(arguments.data, caches.folder, towers, threads)
    samples, test, seen, known, masks = prepared
    directions = torch.nn.functional.normalize(torch.randn(2, 640), dim=-1).to(device)
    factor = towers[1].config["logit_scale"]
    pixels = seen, known, masks, directions, factor
    figures = {
        "job": job(caches, threads, ["seg"], OPTIONS["epochs"]),
        "text_step": text_step(clip, towers[1], threads),
        "evaluation": evaluation(towers[0], samples, *pixels),
        "embedding": embedding(clip, towers[0], test),
        "visual": visual(seen, known, device),
        "bfloat16": half(towers, test),
        "cores": cores(caches, threads),
        "together": together(caches, towers[1], threads),
        "auroc": auroc(masks),
    }
    figures["summary"] = summary(figures, threads)
    for name, figure in figures.items():
        files.write_json(out / f"{name}.json", figure)
    print(json.dumps(figures, indent=2))


def summary(figures: dict, threads: int) -> dict:
    """The headline figures; the published job is extrapolated from one epoch."""
    step = figures["text_step"][f"threads_{threads}"]["plain_seconds"]
    epoch = step + figures["evaluation"]["plain_seconds"]
    return {
        "text_step_ratio": figures["text_step"]["ratio"],
        "evaluation_ratio": figures["evaluation"]["ratio"],
        "job_seconds": figures["job"]["seconds"],
        "job_peak_mb": figures["job"]["peak_mb"],
        "embed_ratio": 1 / figures["embedding"]["ratio"],
        "auroc_ratio": figures["auroc"]["ratio"],
        "bfloat16_step_ratio": figures["bfloat16"]["text_step"]["ratio"],
        "two_jobs_at_once": figures["cores"]["two_at_once"],
        "together_job_ratio": figures["together"]["job"]["ratio"],
        "published_job_seconds": OPTIONS["epochs"] * epoch,
    }


if __name__ == "__main__":
    main()
