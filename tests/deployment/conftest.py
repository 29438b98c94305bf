"""Detectors of every method on tiny backbones; torch is imported by fixtures alone."""

import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.conftest import make_detector
from helpers import OPTIONS

__all__ = ["make_detector"]

KNOWN = {"variant": "original", "scales": [2], "rotations": 2, "mask": "none"}


@pytest.fixture(scope="session")
def onnx():
    """The packages of envs/export.txt."""
    folder = Path(sys.prefix) / "export"
    if folder.exists():
        sys.path.append(str(folder))
    reason = "envs/export.txt is not installed: `make test` does it"
    return pytest.importorskip("onnx", reason=reason)


@pytest.fixture(scope="session")
def photographs():
    """Six smooth random images of two sizes, uint8 [H, W, 3]."""
    import cv2

    generator = np.random.default_rng(3)
    coarse = generator.integers(0, 256, (6, 6, 6, 3), np.uint8)
    return [cv2.resize(x, (50, 40 + 8 * (i > 3))) for i, x in enumerate(coarse)]


@pytest.fixture(scope="session")
def fit(towers, tokens):
    """Fits a method to images, by default on the tiny CLIP."""
    from deployment.fitting import fitted

    def make(method, images, network=None, **options):
        known = OPTIONS | KNOWN | options
        return fitted(method, images, known, network or towers[0], (towers[1], tokens))

    return make
