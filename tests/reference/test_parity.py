"""This project against outputs of the published code."""

import subprocess
import sys

import numpy as np
import pytest

from fsad.evaluation import metrics
from helpers import folder_from_environment

CASES = ("bottle_cls_k2", "metal_nut_seg_k1")
AUROC_POINTS = 0.005


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """Inputs, expected arrays, and the arrays that the parity command writes."""
    folder = folder_from_environment("FSAD_PARITY", "the published outputs")
    source = folder / f"{request.param}.case.npz"
    out = tmp_path_factory.mktemp("parity") / "out.npz"
    command = [sys.executable, "-m", "promptad.parity", source, out]
    subprocess.run(command, check=True)
    expected = folder / f"{request.param}.expected.npz"
    return [dict(np.load(path)) for path in (source, expected, out)]


def test_every_array_is_that_of_the_published_code(case):
    _, expected, ours = case
    errors = {
        name: np.linalg.norm(ours[name] - value) / np.linalg.norm(value)
        for name, value in expected.items()
        if not name.endswith("_roc")
    }
    assert len(errors) == 19
    assert max(errors.values()) < 1e-5, errors


def test_auroc_end_to_end(case):
    _, expected, ours = case
    for name in ("i_roc", "p_roc"):
        assert abs(ours[name] - expected[name]) < AUROC_POINTS


def test_auroc_of_the_expected_scores(case):
    inputs, expected, _ = case
    image = metrics.auroc(inputs["labels"], expected["cls_scores"])
    pixel = metrics.auroc(inputs["masks"], expected["seg_maps"])
    assert image == pytest.approx(float(expected["i_roc"]), abs=1e-9)
    assert pixel == pytest.approx(float(expected["p_roc"]), abs=1e-9)
