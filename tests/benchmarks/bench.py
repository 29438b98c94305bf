"""Speed, each figure a ratio of this project to the plain way in one run.

python tests/benchmarks/bench.py DATA OUT: DATA holds a class folder `bottle`; one JSON
file per figure and summary.json go to OUT. Random weights of the full-size backbone.
With --device cuda everything but the last AUROC is computed on the GPU, both ways. The
figures of the methods without training are those of `training_free.py`.
"""

# Before NumPy, for which the package sets how it sorts.
from fsad.jobs.threads import limit_torch_threads

# isort: split
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from graphs import measured
from sklearn.metrics import roc_auc_score
from timing import against, seconds, timed
from training_free import FIGURES

from fsad.artifacts.files import write_json, write_npz
from fsad.artifacts.sources import Embedding, RunJob, Source
from fsad.backbones.clip import load_clip, split_towers
from fsad.backbones.clip_text import Contexts, embed_words, encode_prompts
from fsad.backbones.devices import captured, check_device
from fsad.backbones.embed import normalise_pixels
from fsad.backbones.features import OF_THE_SET, embed_draw, embed_test
from fsad.backbones.networks import open_network
from fsad.backbones.readout import VARIANTS, described, variant_readout
from fsad.backbones.tower import Tower, save_tower
from fsad.data import images, layouts
from fsad.data.augment import Augment
from fsad.data.prepare import load_support, load_test
from fsad.data.views import View
from fsad.data.words import tokenize
from fsad.evaluation import metrics
from fsad.evaluation.detector import Detector, view_of
from fsad.evaluation.tasks import TASKS, Truth
from fsad.methods.patches import nearest_cosine
from fsad.methods.promptad.losses import objective
from fsad.methods.promptad.method import MEMORY, SIGMA, PromptADDetector
from fsad.methods.promptad.training import initial_contexts
from fsad.reference import published

BACKBONE = {"library": "open_clip", "model": "ViT-B-16-plus-240"}
BACKBONE |= {"pretrained": "random", "random_seed": 0}
ORIGINAL = VARIANTS["original"]
READOUT = variant_readout(ORIGINAL, View("square", 240))
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
    "position": "any",
    "whole": False,
    "seed": 111,
    "precision": "float32",
}
SHOTS = 2
SUPPORT = [["0", ""], ["1", ""]]  # in place of names and digests
CLASS = "bottle"
DESCRIBED = {"readout": described(READOUT)}
N_PRO = {"cls": 3, "seg": 1}
EMBEDDED = 16
TRAINING_FREE = Path(__file__).with_name("training_free.py")


class Caches(NamedTuple):
    """The folder of a class's cached files, and the device its jobs compute on."""

    folder: Path
    device: str


class Started(NamedTuple):
    """A training job under way, its log, and when it was started."""

    process: subprocess.Popen
    log: Path
    at: float


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


def step_inputs(
    start: torch.Tensor, projection: torch.Tensor
) -> tuple[Contexts, torch.Tensor]:
    """Contexts of cls that take gradients, and features of two support images, lying
    where the embedded [SOS] token does."""
    drawn = initial_contexts(OPTIONS | {"n_pro": N_PRO["cls"]}, len(start), 0)
    contexts = Contexts(*(c.to(start.device).requires_grad_() for c in drawn))
    return contexts, units(projection)


def units(projection: torch.Tensor) -> torch.Tensor:
    """Two random directions [2, D], where a projection of text [Dt, D] leads to."""
    drawn = torch.randn(2, projection.shape[1], device=projection.device)
    return torch.nn.functional.normalize(drawn, dim=-1)


def step_seconds(tower, states: Sequence[str] = STATES) -> float:
    """Our step of a cls training."""
    words = embed_words(tower, tokenize("bottle", states))
    contexts, seen = step_inputs(words.start, tower.weights["text_projection"])
    scale, weight = tower.config["logit_scale"], OPTIONS["match_weight"]

    def step():
        text = encode_prompts(tower, words, contexts)
        loss = objective(seen, text, scale, weight).total
        return torch.autograd.grad(loss, contexts)

    return seconds(captured(step, tower.device), 5)


def plain_step_seconds(clip) -> float:
    """The same step, every sequence padded to the context length."""
    tokens = tokenize("bottle", STATES)
    start = clip.token_embedding.weight[0]
    contexts, seen = step_inputs(start, clip.text_projection)
    return seconds(lambda: published.step(clip, tokens, contexts, seen), 2)


def half(towers, test: dict) -> dict:
    """bfloat16 against float32: a text step, and the features of 16 images."""
    some, device = first_images(test), str(towers[0].device)
    halves = [tower.to(device, "bfloat16") for tower in towers]
    steps = [step_seconds(tower) for tower in (halves[1], towers[1])]
    embeddings = [embedding_seconds(tower, some) for tower in (halves[0], towers[0])]
    return {"text_step": against(*steps), "embedding": against(*embeddings)}


def first_images(test: dict) -> dict:
    """The images that are embedded."""
    return {name: array[:EMBEDDED] for name, array in test.items()}


def embedding_seconds(tower: Tower, some: dict) -> float:
    """Wall time of all features of some images."""
    network = open_network(tower)
    return seconds(lambda: embed_test(network, some, READOUT), 3)


def together(caches: Caches, threads: int) -> dict:
    """Both tasks three times in one job against six jobs of ten epochs, start-up
    included."""
    one_by_one = sum(job(caches, threads, [t], 10)["seconds"] for t in ("cls", "seg"))
    all_in_one = job(caches, threads, ["cls", "seg"] * 3, 10)["seconds"]
    return {"job": against(all_in_one, 3 * one_by_one)}


def embedding(clip, tower, test: dict) -> dict:
    """All features of 16 images against open_clip's encode_image of them."""
    some = first_images(test)
    batches = torch.from_numpy(some["images"]).split(8)

    @torch.inference_mode()
    def encode():
        for batch in batches:
            clip.encode_image(normalise_pixels(batch.numpy(), tower))

    return against(embedding_seconds(tower, some), seconds(encode, 3))


def evaluation(tower, samples, test: dict, known: dict, masks, learned) -> dict:
    """One scheduled pixel evaluation against the published one at R = 400."""
    result, device = {}, learned["prompts"].device
    memory = {name: torch.from_numpy(known[name]).to(device) for name in MEMORY}
    detector = PromptADDetector("seg", OPTIONS["resolution"], "any", memory, learned)
    features = {name: x for name, x in test.items() if name not in OF_THE_SET}
    for count in (len(samples) // 4, len(samples) // 2, len(samples)):
        observed = detector.observe({n: x[-count:] for n, x in features.items()})
        truth = Truth(test["labels"][-count:], masks[-count:])
        area = TASKS["seg"].auroc(truth, device, SIGMA)

        def evaluate(observed=observed, area=area):
            return area(detector.predict(observed).maps)

        result[f"images_{count}"] = {"ours_seconds": seconds(evaluate, 5)}
    see = partial(published.see, tower, variant=ORIGINAL)
    prompts, scale = learned["prompts"], learned["logit_scale"].item()
    compared = see, samples, memory, prompts, scale
    other = timed(lambda: published.evaluate(*compared, task="seg"))
    ours = result[f"images_{len(samples)}"]["ours_seconds"]
    return result | against(ours, other)


def visual(test: dict, known: dict, device: torch.device) -> dict:
    """The distances of all test patches to 1, 2 and 4 support images."""
    result = {}
    tested = [torch.from_numpy(test[name]).to(device).flatten(1, 2) for name in MEMORY]
    for shots in (1, 2, 4):
        banks = [
            torch.from_numpy(known[name][:1]).to(device).repeat(shots, 1, 1, 1)
            for name in MEMORY
        ]

        def search(banks=banks):
            for patches, bank in zip(tested, banks, strict=True):
                nearest_cosine(patches, bank.flatten(0, 2))

        result[f"shots_{shots}"] = {"ours_seconds": seconds(search, 2)}
    return result


def auroc(masks: np.ndarray) -> dict:
    """Exact pixel AUROC of random maps against scikit-learn's."""
    maps = np.random.default_rng(0).random(masks.shape, np.float32)
    ours = seconds(lambda: metrics.auroc(masks, maps), 3)
    return against(ours, timed(lambda: roc_auc_score(masks.ravel(), maps.ravel())))


def predict(towers, samples, known: dict, learned: dict) -> dict:
    """Scores of new images on a CPU, in torch and as a graph of ONNX."""
    network = open_network(towers[0].to("cpu", "float32"))
    memory = {name: torch.from_numpy(known[name]) for name in MEMORY}
    learned = {name: tensor.cpu() for name, tensor in learned.items()}
    fitted = PromptADDetector("seg", OPTIONS["resolution"], "any", memory, learned)
    described = {"class": CLASS, "method": "promptad", "task": "seg", "threshold": None}
    described |= {"options": OPTIONS, "map_range": [0, 1], "images": SUPPORT, "run": {}}
    detector = Detector(network, READOUT, fitted, described | {"backbone": "random"})
    pictures = (images.read_image(sample.path) for sample in samples[:EMBEDDED])
    return measured(detector, [view_of(detector, picture) for picture in pictures])


def drawn_text(tower: Tower) -> dict[str, torch.Tensor]:
    """What a training would learn, drawn at random."""
    scale = torch.tensor(tower.config["logit_scale"], dtype=torch.float64)
    return {"prompts": units(tower.weights["text_projection"]), "logit_scale": scale}


JOB = """
import json, sys
from fsad.artifacts.sources import Embedding, RunJob, Source
from fsad.evaluation.runs import run_job
from fsad.jobs.job import job
folder, given, threads = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
names = "vision", "text", "prompts", "masks"
sources = {name: Source(*given.pop(name)) for name in names}
test = Embedding(*(Source(*part) for part in given.pop("test")))
support = {int(seed): Embedding(*(Source(*part) for part in parts))
           for seed, parts in given.pop("support").items()}
with job(f"{folder}/log", threads, torch=threads):
    run_job(RunJob(test=test, support=support, **sources, **given))
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
    shutil.rmtree(out, ignore_errors=True)  # a finished run would not be made again
    out.mkdir()
    described = json.dumps(run_job(caches, out, tasks, epochs)._asdict())
    command = [sys.executable, "-c", JOB, out, described, str(threads)]
    return Started(subprocess.Popen(command), out / "log", start)


def run_job(caches: Caches, out: Path, tasks: Sequence[str], epochs: int) -> RunJob:
    """The runs of a job; of the records of its files only the readout is checked."""
    options = OPTIONS | {"device": caches.device, "epochs": epochs}
    common = {"module": "fsad.methods.promptad.method", "support": SUPPORT}
    common |= {"seed": OPTIONS["seed"], "stage": "run", "class": CLASS}
    common |= {"method": "promptad", "backbone": BACKBONE["model"], **DESCRIBED}
    common |= {"made_from": {"text": ""}}
    records = [
        {**common, "task": task, "options": options | {"n_pro": N_PRO[task]}}
        for task in tasks
    ]

    def source(name: str, record: Mapping) -> Source:
        return Source(str(caches.folder / name), record)

    made = DESCRIBED | {"device": caches.device, "precision": "float32"}
    drawn = source("support_images.npz", DESCRIBED)
    test = Embedding(Source("", {}), source("test.npz", made))
    support = Embedding(drawn, source("support.npz", made))
    return RunJob(
        folders=[str(out / f"run{index}") for index in range(len(records))],
        records=records,
        test=test,
        support={OPTIONS["seed"]: support},
        vision=source("vision.safetensors", {}),
        text=source("text.safetensors", {}),
        prompts=source("prompts.npz", {}),
        masks=source("masks.npz", {"resolution": OPTIONS["resolution"]}),
    )


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


def training_free(name: str, threads: int, device: str) -> dict:
    """A figure of the methods without training, made in a process of its own."""
    command = [sys.executable, TRAINING_FREE, name, "--threads", str(threads)]
    return json.loads(subprocess.check_output([*command, "--device", device]))


def prepare(data: Path, caches: Caches, towers, threads: int) -> tuple:
    """Caches of bottle as the pipeline makes them; also returned."""
    files = layouts.list_class("mvtec", data, CLASS)
    view, augment = (part._asdict() for part in (READOUT.view, Augment()))
    draw = {"seed": OPTIONS["seed"], "class": CLASS, "view": view, "augment": augment}
    (test,) = load_test(files.test, [READOUT.view], threads)
    support = load_support(files.train[:SHOTS], draw, threads)
    masks = images.load_masks(files.test, OPTIONS["resolution"], threads)
    network = open_network(towers[0])
    seen = embed_test(network, test, READOUT)
    known = embed_draw(network, support, READOUT)
    tokens = tokenize(CLASS, STATES)
    arrays = {"prompts": tokens, "test": seen, "support": known, "masks": masks}
    arrays |= {"support_images": support}
    settings = {"images": SUPPORT, "device": caches.device, "precision": "float32"}
    settings |= {"resolution": OPTIONS["resolution"]}
    for name, content in arrays.items():
        write_npz(caches.folder / f"{name}.npz", content, settings | DESCRIBED)
    for name, tower in zip(("vision", "text"), towers, strict=True):
        save_tower(caches.folder / f"{name}.safetensors", tower, {})
    return files.test, test, seen, known, masks["masks"]


def in_process(clip, towers, prepared: tuple, learned: dict, threads: int) -> dict:
    """Figures that start no other process."""
    samples, test, seen, known, masks = prepared
    return {
        "text_step": text_step(clip, towers[1], threads),
        "evaluation": evaluation(towers[0], samples, seen, known, masks, learned),
        "embedding": embedding(clip, towers[0], test),
        "visual": visual(seen, known, learned["prompts"].device),
        "bfloat16": half(towers, test),
        "auroc": auroc(masks),
    }


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
    prepared = prepare(arguments.data, caches, towers, threads)
    samples, _, _, known, _ = prepared
    learned = drawn_text(towers[1])
    figures = {
        "job": job(caches, threads, ["seg"], OPTIONS["epochs"]),
        **in_process(clip, towers, prepared, learned, threads),
        "cores": cores(caches, threads),
        "together": together(caches, threads),
        "predict": predict(towers, samples, known, learned),
        **{f"training_free_{n}": training_free(n, threads, device) for n in FIGURES},
    }
    figures["summary"] = summary(figures, threads)
    for name, figure in figures.items():
        write_json(out / f"{name}.json", figure)
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
        **{
            f"predict_{name}_{threads}": figures["predict"][f"threads_{threads}"][name]
            for threads in (1, 2)
            for name in ("torch_ms", "onnx_ms", "ratio")
        },
        **training_free_summary(figures),
    }


def training_free_summary(figures: dict) -> dict:
    """The headline figures of the methods without training."""
    embedding, pooling, searches, nested, stored, windows = (
        figures[f"training_free_{name}"] for name in FIGURES
    )
    kept = {"ours_seconds": "seconds", "ratio": "ratio", "ours_peak_mb": "peak_mb"}
    kept |= {"product_share": "product_share"}
    return {
        **{f"embed_ratio_{n}": 1 / x["ratio"] for n, x in embedding.items()},
        **{f"pooling_ratio_{n}": x["ratio"] for n, x in pooling.items()},
        **{
            f"{name}_{short}": figure[long]
            for name, figure in searches.items()
            for long, short in kept.items()
        },
        **{f"nested_ratio_{n}": x["ratio"] for n, x in nested.items()},
        "stored_grown_mb": stored["grown_mb"],
        "windows_seconds": windows["ours_seconds"],
        "windows_ratio": windows["ratio"],
    }


if __name__ == "__main__":
    main()
