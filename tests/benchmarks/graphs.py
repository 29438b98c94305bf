"""Detectors in torch and as graphs of ONNX: the largest differences, and time.

python tests/benchmarks/graphs.py RUN... --images FOLDER prints a table with a row
for each folder of a run; FOLDER holds images of its class.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from timing import compared

from fsad.data.images import read_image
from fsad.data.layouts import find_images
from fsad.deployment.onnx_file import batches, export_onnx
from fsad.evaluation.detector import Detector, Seen, detect, view_of
from fsad.evaluation.restore import run_detector

sys.path.append(str(Path(sys.prefix) / "export"))

THREADS = 1, 2
REPEAT = 3
HEADINGS = (
    "run",
    "scores",
    "maps",
    *(f"{n}, {k}" for k in THREADS for n in ("torch", "ONNX")),
)


def measured(detector: Detector, seen: Sequence[Seen]) -> dict:
    """Largest differences of scores and maps, and milliseconds an image in torch and in
    ONNX Runtime by the number of threads, both called in turn."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "detector.onnx")
        found = export_onnx(path, detector, seen)._asdict()
        for threads in THREADS:
            found[f"threads_{threads}"] = _times(path, detector, seen, threads)
    return found


def _times(path: Path, detector: Detector, seen: Sequence[Seen], threads: int) -> dict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options)
    given, before = [*batches(detector, seen)], torch.get_num_threads()
    torch.set_num_threads(threads)
    times = compared(
        lambda: [session.run(None, batch) for batch in given],
        lambda: detect(detector, seen),
        REPEAT,
    )
    torch.set_num_threads(before)
    each = 1000 / len(seen)
    return {
        "torch_ms": times["plain_seconds"] * each,
        "onnx_ms": times["ours_seconds"] * each,
        "ratio": times["ratio"],
    }


def row(run: Path, images: Sequence[Path]) -> str:
    """The row of a run in the table."""
    detector = run_detector(run)
    seen = [view_of(detector, read_image(path)) for path in images]
    found = measured(detector, seen)
    times = [
        found[f"threads_{k}"][f"{n}_ms"] for k in THREADS for n in ("torch", "onnx")
    ]
    name = f"{detector.described['run']['experiment']} {detector.described['task']}"
    numbers = [f"{found['scores']:.1e}", f"{found['maps']:.1e}"]
    return "| ".join(["", name, *numbers, *(f"{time:.1f}" for time in times)]) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    arguments = parser.parse_args()
    images = [*find_images([arguments.images]).values()]
    print(
        "| " + " | ".join(HEADINGS) + " |\n|---" + "|---:" * (len(HEADINGS) - 1) + "|"
    )
    for run in arguments.runs:
        print(row(run, images), flush=True)


if __name__ == "__main__":
    main()
