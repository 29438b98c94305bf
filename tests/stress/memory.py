"""Memory of library calls, each measured in a process of its own.

`python memory.py CALL ARGUMENT...` prints three numbers, see `CALLS`.
"""

import sys
from pathlib import Path

import numpy as np
import psutil
import yaml

STATUS = Path("/proc/self/status")
SIDE = 240  # of decoded images


def growth(call):
    """Result of a call, and the bytes by which memory peaked above the start."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = resident()
    returned = call()
    lines = STATUS.read_text().splitlines()
    peak = next(line for line in lines if "VmHWM" in line).split()[1]
    return returned, int(peak) * 1024 - before


def resident() -> int:
    """Bytes of this process that are in memory."""
    return psutil.Process().memory_info().rss


def decoded(root: str) -> tuple[int, int, int]:
    """Decode the test images of the class `bolt`: their number, bytes, growth."""
    from fsad.data.layouts import list_class
    from fsad.data.prepare import load_test
    from fsad.data.views import View

    samples = list_class("folder", root, "bolt").test
    views = [View("square", SIDE)]
    load_test(samples[:4], views, 2)
    (arrays,), grown = growth(lambda: load_test(samples, views, 2))
    return len(samples), arrays["images"].nbytes, grown


def embedded(model: str, count: str) -> tuple[int, int, int]:
    """Embed so many black images: their number, bytes of their features, growth."""
    from fsad.backbones.clip import load_backbone
    from fsad.backbones.features import embed_test
    from fsad.backbones.networks import open_network
    from fsad.backbones.readout import VARIANTS, variant_readout
    from fsad.data.views import View

    backbone = {"model": model, "pretrained": "random", "random_seed": 0}
    tower, _ = load_backbone({"library": "open_clip", **backbone})
    network = open_network(tower)
    readout = variant_readout(VARIANTS["original"], View("square", 32))
    pixels = np.zeros((int(count), 32, 32, 3), np.uint8)
    images = {
        "images": pixels,
        "labels": pixels[:, 0, 0, 0],
        "names": pixels[:, 0, 0, 0],
    }
    embed_test(network, {name: x[:16] for name, x in images.items()}, readout)
    arrays, grown = growth(lambda: embed_test(network, images, readout))
    return len(pixels), sum(array.nbytes for array in arrays.values()), grown


def repeated(config: str, out: str, count: str) -> tuple[int, int, int]:
    """Make a run again and again: how often, bytes after a tenth of it and at the end.

    It is the first run of the configuration, made in new folders below `out`.
    """
    from fsad.evaluation.runs import run_job
    from fsad.jobs.threads import limit_torch_threads
    from fsad.planning.checks import make_plan

    limit_torch_threads(1)
    plan = make_plan(yaml.safe_load(Path(config).read_text()))
    job, sizes = plan.run_job(plan.runs[:1]), []
    for index in range(int(count)):
        run_job(job._replace(folders=[f"{out}/{index}"], stored=False))
        sizes.append(resident())
    return len(sizes), sizes[len(sizes) // 10 - 1], sizes[-1]


CALLS = {call.__name__: call for call in (decoded, embedded, repeated)}

if __name__ == "__main__":
    _, name, *arguments = sys.argv
    print(*CALLS[name](*arguments))
