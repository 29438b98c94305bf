"""Cases of methods without training against outputs of their published code."""

import json

import numpy as np
import pytest

from fsad.errors import UserError
from fsad.reference.parity import write_parity
from helpers import folder_from_environment, relative_error

CASES = ("anomalydino_carpet_k2", "anomalydino_screw_k2", "patchcore_bottle_k1")
CASES += ("patchcore_screw_k2", "subspacead_bottle_k1", "subspacead_transistor_k2")
CASES += ("winclip_bottle_k2", "winclip_metal_nut_k0")
EQUAL = {"coreset_indices", "foreground", "test_resized_0", "support_augmented_1"}
# Of numbers, in points; SubspaceAD's AUPRO was taken at 300 thresholds.
POINTS = {"p_roc": 0.005, "pro": 0.05}


@pytest.fixture(scope="module")
def folder():
    return folder_from_environment("FSAD_PARITY", "the published outputs")


@pytest.mark.parametrize("name", CASES)
def test_every_array_is_that_of_the_published_code(name, folder, tmp_path):
    path = folder / "parity_methods" / f"{name}.case.npz"
    write_parity(path, tmp_path / "out.npz")
    found = np.load(tmp_path / "out.npz")
    expected = np.load(str(path).replace(".case.", ".expected."))
    for array, value in expected.items():
        ours = found[array]
        if array in EQUAL:
            assert np.array_equal(ours, value), array
        elif value.ndim == 0:
            assert abs(ours - value) < POINTS.get(array, 1e-6), array
        elif array == "pca_components":  # the signs are arbitrary
            assert relative_error(ours @ ours.T, value @ value.T) < 1e-5
        else:
            assert relative_error(ours, value) < 1e-4, array


@pytest.mark.parametrize("name", [CASES[1], CASES[2], CASES[4], CASES[6]])
def test_other_numbers_of_images_and_options_work(name, folder, tmp_path):
    case = dict(np.load(folder / "parity_methods" / f"{name}.case.npz"))
    meta = json.loads(str(case["meta"]))
    meta |= {"map_images": [0]} | ({"num_nn": 3} if "num_nn" in meta else {})
    kept = {n: x[-3:] for n, x in case.items() if n in ("test", "labels", "masks")}
    np.savez(
        tmp_path / "case.npz", **case | kept | {"meta": np.array(json.dumps(meta))}
    )
    write_parity(tmp_path / "case.npz", tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")["maps"].ndim == 3


def test_a_case_of_another_method_is_named(tmp_path):
    meta = np.array(json.dumps({"method": "PaDiM"}))
    np.savez(tmp_path / "case.npz", meta=meta)
    with pytest.raises(
        UserError, match=r"case\.npz: is of PaDiM; cases of PromptAD, winclip"
    ):
        write_parity(tmp_path / "case.npz", tmp_path / "out.npz")
