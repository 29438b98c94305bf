"""Runs and detectors as files that leave the results."""

from collections.abc import Sequence
from pathlib import Path

from fsad.data.images import read_image
from fsad.data.layouts import find_images
from fsad.deployment.onnx_file import export_onnx
from fsad.errors import UserError
from fsad.evaluation.detector import Detector, view_of
from fsad.evaluation.detector_files import chosen_class, save_detectors
from fsad.evaluation.predict import open_detectors

SUFFIXES = SAFETENSORS, ONNX = ".safetensors", ".onnx"


def export_file(
    out: Path, sources: Sequence[Path], name: str | None, check: Path | None
) -> str:
    """Write detectors to one file of the kind that its suffix names; returns what was
    done.

    sources: folders of runs, and files of `fsad export`. name: the class that is
    written alone, None for all. check: a folder of images, or one, on which a graph is
    compared as well.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out: {out} must end in {' or '.join(SUFFIXES)}")
    if check is not None and out.suffix != ONNX:
        raise UserError("--check: compares a graph, of --out FILE.onnx; leave it out")
    opened = [open_detectors(source, "cpu") for source in sources]
    detectors = [detector for found in opened for detector in found.values()]
    if name is not None or out.suffix == ONNX:
        detectors = _of_class(detectors, name)
    if out.suffix == ONNX:
        return _graph(out, *detectors, check)
    save_detectors(out, detectors)
    return ", ".join(detector.described["class"] for detector in detectors)


def _of_class(detectors: Sequence[Detector], name: str | None) -> list[Detector]:
    """The one detector of a class."""
    by_class = {detector.described["class"]: detector for detector in detectors}
    if len(by_class) < len(detectors):
        raise UserError("--run: several of one class; name one run of each")
    return [by_class[chosen_class(by_class, name)]]


def _graph(out: Path, detector: Detector, check: Path | None) -> str:
    paths = [] if check is None else find_images([check]).values()
    seen = [view_of(detector, read_image(path)) for path in paths]
    found = export_onnx(out, detector, seen)
    return (
        f"equal to torch on {found.images} images, up to {found.scores:.1e} of the "
        f"largest score and {found.maps:.1e} of the largest map value"
    )
