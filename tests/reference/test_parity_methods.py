"""Inputs and features of further methods against outputs of their published code."""

import json

import numpy as np
import pytest
import torch

from fsad.backbones.embed import embed_batch, embed_support
from fsad.backbones.networks import cut, open_network
from fsad.backbones.readout import Readout
from fsad.data import augment
from fsad.data.augment import Augment
from fsad.data.views import View, resized
from fsad.reference.parity_methods import dinov2_weight, formula_network, resnet_weight
from helpers import folder_from_environment, relative_error

DINO = ("anomalydino_carpet_k2", "anomalydino_screw_k2")
SUBSPACE = ("subspacead_bottle_k1", "subspacead_transistor_k2")
PATCHCORE = ("patchcore_bottle_k1", "patchcore_screw_k2")


@pytest.fixture(scope="module")
def load():
    """Loads a case: its inputs, its settings, and the expected arrays."""
    root = folder_from_environment("FSAD_PARITY", "the published outputs")

    def read(name):
        case = dict(np.load(root / f"parity_methods/{name}.case.npz"))
        expected = dict(np.load(root / f"parity_methods/{name}.expected.npz"))
        return case, json.loads(str(case["meta"])), expected

    return read


def published_readout(meta):
    """The readout of a case; its copies are made with the angles of the case."""
    if meta["method"] == "patchcore":
        fields = {"layers": meta["layers"], "layer_width": meta["pretrain_dim"]}
        fields |= {"patch_width": meta["target_dim"]}
        return Readout("case", "neighbourhoods", View("square", 0), Augment(), fields)
    dino = meta["method"] == "AnomalyDINO"
    fields = {"blocks": "last" if dino else meta["blocks"], "norm": dino}
    fit = ("edge", meta["smaller_edge"]) if dino else ("square", meta["resolution"])
    view = View(*fit, "bicubic")
    return Readout("case", "tokens", view, Augment(), fields | {"moments": False})


def published_copies(image, meta, angles):
    """Copies of a raw support image; angles: of SubspaceAD."""
    if meta["method"] == "AnomalyDINO":
        return [augment.rotated(image, angle) for angle in meta["rotation_angles"]]
    return [image, *(augment.rotated_onto_black(image, angle) for angle in angles)]


def views(images, view):
    return np.stack([resized(image, view) for image in images])


@pytest.mark.parametrize("name", [*DINO, *SUBSPACE])
def test_inputs_are_those_of_the_published_code(name, load):
    case, meta, expected = load(name)
    view = published_readout(meta).view
    first = torch.from_numpy(views(case["test"][:1], view)).permute(0, 3, 1, 2)
    first = cut(first, meta["backbone"]["patch_size"])[0].permute(1, 2, 0)
    assert np.array_equal(first, expected["test_resized_0"])
    angles = case["angles"][0, 0] if "angles" in case else ()
    copies = published_copies(case["support"][0], meta, angles)
    if "support_augmented_1" in expected:  # of the second angle, if there is one
        assert np.array_equal(copies[:2][-1], expected["support_augmented_1"])


@pytest.mark.parametrize("name", [*DINO, *SUBSPACE])
def test_patch_features_are_those_of_the_published_code(name, load):
    case, meta, expected = load(name)
    network, readout = open_network(formula_network(meta)), published_readout(meta)
    test = embed_batch(network, views(case["test"], readout.view), readout)["patch"]
    wanted = expected["test_features"]
    assert relative_error(test.reshape(wanted.shape), wanted) < 1e-5
    passes = {"support_features": 0, "support_features_mean": 0}
    for array, draw in (passes | {"support_features_covariance": 1}).items():
        if array not in expected:
            continue
        copies = [
            views(published_copies(image, meta, angles), readout.view)
            for image, angles in zip(
                case["support"], angles_of(case, draw), strict=True
            )
        ]
        support = embed_support(network, {"images": np.stack(copies)}, readout)["patch"]
        wanted = expected[array]
        assert relative_error(support.reshape(wanted.shape), wanted) < 1e-5


def angles_of(case, draw):
    return case["angles"][draw] if "angles" in case else [()] * len(case["support"])


@pytest.mark.parametrize("name", PATCHCORE)
def test_neighbourhoods_are_those_of_the_published_code(name, load):
    case, meta, expected = load(name)
    network, readout = open_network(formula_network(meta)), published_readout(meta)
    test = embed_batch(network, case["test"], readout)["patch"]
    support = embed_support(network, {"images": case["support"][:, None]}, readout)[
        "patch"
    ]
    for ours, wanted in ((test, "test_features"), (support, "support_features")):
        assert relative_error(ours.flatten(0, 2), expected[wanted]) < 1e-5


@pytest.mark.parametrize("name", [*DINO, *SUBSPACE, *PATCHCORE])
def test_networks_of_formulas_have_the_published_parameters(name, load):
    _, meta, _ = load(name)
    names = formula_network(meta).weights.keys()
    published = {n for n in meta["parameters"] if not n.startswith("fc.")}
    changed = {"mask_token", "register_tokens", "reg_token"}
    ours = {n.replace("fc1", "w12").replace("fc2", "w3") for n in names}
    ours = ours if any("w12" in n for n in published) else {*names}
    ours = {n for n in ours if not n.endswith("num_batches_tracked")}
    assert ours - changed == published - changed


def test_weights_follow_the_formulas():
    settings = {"weight_seed": 3, "norm_gain": 6.0}
    gain = dinov2_weight("norm.weight", (500,), settings)
    assert gain.mean() == pytest.approx(6, abs=0.1)
    assert not dinov2_weight("mask_token", (1, 5), settings).any()
    product = dinov2_weight("blocks.0.mlp.w12.weight", (400, 100), settings)
    assert product.std() == pytest.approx(0.1, abs=0.01)
    assert (resnet_weight("bn1.running_var", (50,), 3) > 0).all()
    convolution = resnet_weight("conv1.weight", (100, 4, 5, 5), 3)
    assert convolution.std() == pytest.approx(0.1, abs=0.01)
