"""A quick self-test: does this pipeline do here what it promises?

python tests/benchmarks/verify.py OUT, where the demo's images lie in results/demo/data.
One class is trained by hand and by the pipeline, and the plain, published way is run
beside them. Prints what was promised and what was found, writes OUT/verify.json, and
exits with 1 where a promise does not hold here.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import bench
import numpy as np
import pandas as pd
import plain
import torch

from promptad import images, maps, prompts, storage
from promptad.backbone import load_clip, split_towers
from promptad.backbone_config import image_size
from promptad.config import (
    class_files,
    class_prompts,
    complete,
    read_yaml,
    training_options,
)
from promptad.runs import TRAINED_ON
from promptad.support import draw_support
from promptad.threads import limit_torch_threads
from promptad.training import initial_contexts, pixel_evaluator

CONFIG = "config/demo.yaml"
CLASS, SHOTS, SEED, EPOCHS = "rubber_gasket", 4, 111, 20
TASKS = "cls", "seg"
IMAGES = 83  # test images of MVTec AD's bottle, for the times


class Finding(NamedTuple):
    """A promise, what was found, and whether that keeps it."""

    promise: str
    found: str
    kept: bool


def by_hand(task: str, out: Path, **options: object) -> Path:
    """One training by hand, with the options that a researcher gives."""
    given = {"experiment": "original", "dataset": "demo", "class": CLASS}
    given |= {"shots": SHOTS, "seed": SEED, "epochs": EPOCHS, "threads": 2}
    given |= {"device": "cpu", "config": CONFIG, "out": out}
    words = [f"--{name}={value}" for name, value in (given | options).items()]
    command = [sys.executable, "-m", "promptad.cli", "train", task, *words]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return out


def pipeline(out: Path, *arguments: str) -> str:
    """The demo through the pipeline; what Snakemake says."""
    options = [f"results={out}", f"shots=[{SHOTS}]", f"epochs={EPOCHS}"]
    options += ["threads=2", "vis=false", "monitor=true"]
    command = [sys.executable, "-m", "snakemake", "--configfile", CONFIG]
    command += [*arguments, "--config", *options]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return run.stdout + run.stderr


def check_schedule(runs: dict[str, Path]) -> Finding:
    """Epochs of the history that hold an AUROC."""
    found = []
    for run in runs.values():
        history = pd.read_csv(run / "history.csv")
        found.append(history["epoch"][history.iloc[:, -1].notna()].tolist())
    promise = "20 epochs are evaluated after 5, 10, 15, 20"
    return Finding(promise, str(found[0]), found == [[5, 10, 15, 20]] * len(found))


def check_nothing_kept(runs: dict[str, Path], size: int) -> Finding:
    """Pictures, and arrays as large as an image, among the files of the runs."""
    pictures = [path for run in runs.values() for path in run.rglob("*.png")]
    arrays = [a for run in runs.values() for a in np.load(run / "scores.npz").values()]
    large = [array for array in arrays if array.ndim == 4 or size in array.shape[1:]]
    found = f"{len(pictures)} pictures, {len(large)} arrays of images"
    return Finding("no test images are kept without vis", found, not pictures + large)


def check_maps(run: Path) -> Finding:
    """Maps made at once against those enlarged, then smoothed, by PyTorch and SciPy."""
    grids = np.load(run / "scores.npz")["last"][:8]
    once = maps.full_maps(grids, plain.RESOLUTION)
    other = [plain.smoothed(plain.enlarged(torch.from_numpy(grid))) for grid in grids]
    error = float(np.abs(once - other).max() / np.abs(other).max())
    promise = "maps are made at once at their final size"
    return Finding(promise, f"{error:.0e} from two steps", error < 1e-5)


def check_resolution(out: Path, run: Path) -> Finding:
    """Pixel AUROC at both resolutions."""
    large = by_hand("seg", out / "seg_400", resolution=400)
    found = (
        f"pixel AUROC {last(run, 'seg'):.2f} at 256, {last(large, 'seg'):.2f} at 400"
    )
    stored = [json.loads((r / "metrics.json").read_text()) for r in (run, large)]
    sizes = [results["settings"]["options"]["resolution"] for results in stored]
    return Finding(
        "resolution 256 by default, 400 possible", found, sizes == [256, 400]
    )


def last(run: Path, task: str) -> float:
    """AUROC of the last epoch of a run."""
    name = {"cls": "image_auroc", "seg": "pixel_auroc"}[task]
    return json.loads((run / "metrics.json").read_text())["last"][name]


def check_cache(out: Path) -> Finding:
    """Whether a second run finds all made."""
    pipeline(out, "--cores", "2")
    cached = len(list(out.glob("cache/*/*/test_px*.npz")))
    idle = "Nothing to be done" in pipeline(out, "--cores", "2")
    found = (
        f"{cached} test sets; second run: {'nothing' if idle else 'something'} to do"
    )
    return Finding("test sets are cached, nothing is made twice", found, idle)


def check_cores(out: Path) -> Finding:
    """The most cores of a training, as the monitor saw them."""
    jobs = pd.read_csv(out / "monitor/jobs.csv", index_col="job")
    cores = jobs.loc[jobs.index.str.startswith("train_"), "mean_cores"].max()
    return Finding(
        "a job uses under 2.5 cores", f"{cores:.2f} (monitored)", cores < 2.5
    )


def check_jobs_at_once(out: Path) -> Finding:
    """How many trainings fit on 40 cores, by the threads that they ask for."""
    said = pipeline(out, "--cores", "40", "--dry-run", "--forceall")
    rule = said.partition("rule train_seg:")[2]
    threads = int(re.search(r"threads: (\d+)", rule)[1])
    found = f"{40 // threads}, of {threads} threads each"
    return Finding("20 jobs run at once on 40 cores", found, 40 // threads >= 20)


def check_speed(threads: int) -> list[Finding]:
    """A step and an evaluation of the full-size backbone with random weights."""
    _, tower = split_towers(load_clip(bench.BACKBONE), bench.BACKBONE["model"])
    step = bench.step_seconds(tower)
    grid = 15
    features = torch.nn.functional.normalize(torch.randn(IMAGES, grid**2, 640), dim=-1)
    masks = np.random.default_rng(0).integers(0, 2, (IMAGES, 256, 256), np.uint8)
    visual = torch.rand(IMAGES, grid, grid)
    evaluate = pixel_evaluator(features, visual, masks, 4.6)
    evaluation = bench.seconds(lambda: evaluate(features[0, :2]), 3)
    epoch, whole = step + evaluation, 100 * step + 20 * evaluation
    where = f"ViT-B-16-plus-240, {threads} threads"
    return [
        Finding("an epoch takes under 6 s", f"{epoch:.2f} s ({where})", epoch < 6),
        Finding(
            "100 epochs take under 10 minutes",
            f"{whole:.0f} s, from a step and an evaluation",
            whole < 600,
        ),
    ]


def check_auroc(out: Path) -> list[Finding]:
    """Mean AUROC over the classes against the plain protocol's."""
    findings = []
    for task in TASKS:
        runs = sorted(out.glob(f"runs/*/*/*/k{SHOTS}/s{SEED}/{task}"))
        ours = np.mean([last(run, task) for run in runs])
        other = np.mean([plain_auroc(task, run.parts[-4]) for run in runs])
        found = f"{ours:.2f} here, {other:.2f} there, mean of {len(runs)} classes"
        promise = f"{task}: AUROC within 1 % of the plain protocol"
        findings.append(Finding(promise, found, abs(ours - other) <= 1))
    return findings


def plain_auroc(task: str, class_name: str) -> float:
    """AUROC of a class of the demo that is trained and evaluated the plain way."""
    config = complete(read_yaml(CONFIG))
    clip = load_clip(config["backbone"])
    vision, _ = split_towers(clip, config["backbone"]["model"])
    files = class_files(config, "demo", class_name)
    drawn = draw_support(files.train, class_name, SHOTS, SEED)
    support = [plain.embedded(vision, sample, read) for sample in drawn]
    memory = {name: torch.cat([seen[name] for seen in support]) for name in support[0]}
    words = class_prompts(config, "demo", class_name)
    tokens = prompts.tokenize(words["text"], words["states"])
    options = training_options(config, "original", "demo", class_name, task)
    options |= {"epochs": EPOCHS}
    contexts = initial_contexts(options, clip.token_embedding.weight.shape[1], SEED)
    learned = plain.train(clip, tokens, contexts, memory[TRAINED_ON[task]], options)
    known = memory, learned, clip.logit_scale.item()
    return plain.evaluate(vision, files.test, *known, task, read)


def read(path: Path, size: int) -> np.ndarray:
    """An image, decoded and resized as here: what differs is when, not how."""
    return images.square(images.read_image(path), size)


def verify(out: Path) -> list[Finding]:
    """All findings."""
    size = image_size(complete(read_yaml(CONFIG))["backbone"])
    runs = {task: by_hand(task, out / task) for task in TASKS}
    cached = check_cache(out / "pipeline")
    return [
        Finding("one job by hand, with its options", ", ".join(runs), True),
        check_schedule(runs),
        check_nothing_kept(runs, size),
        check_maps(runs["seg"]),
        check_resolution(out, runs["seg"]),
        cached,
        check_cores(out / "pipeline"),
        check_jobs_at_once(out / "pipeline"),
        *check_speed(2),
        *check_auroc(out / "pipeline"),
    ]


def main() -> None:
    """Verify, tell, and fail where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    limit_torch_threads(2)
    shutil.rmtree(arguments.out, ignore_errors=True)
    findings = verify(arguments.out)
    storage.write_json(arguments.out / "verify.json", [f._asdict() for f in findings])
    for finding in findings:
        print(
            f"{'ok  ' if finding.kept else 'FAIL'}  {finding.promise}: {finding.found}"
        )
    sys.exit(not all(finding.kept for finding in findings))


if __name__ == "__main__":
    main()
