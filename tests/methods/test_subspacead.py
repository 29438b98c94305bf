import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from fsad.errors import UserError
from fsad.methods import subspacead
from fsad.methods.maps import bilinear_matrix, full_maps, smoothing_matrix
from fsad.methods.subspacead import Moments
from helpers import relative_error
from methods.cases import assert_restored, fitted, normal, published, same

OPTIONS = {"explained_variance": 0.9, "position": "any"}
OPTIONS |= {"resolution": 40, "device": "cpu"}
# Of 4 support images with 2 copies of 3 x 5 patches each, in few directions mostly.
PATCHES = normal(4, 30, 12) * torch.logspace(0, -2, 12) + 1
TEST = {"patch": normal(2, 4, 6, 12)}


def moments(patches):
    """Features of support images, from the patches [k, P, D] of all copies."""
    patches = patches.double()
    count = torch.full((len(patches),), float(patches.shape[1]), dtype=torch.float64)
    outer = patches.transpose(1, 2) @ patches
    return {"count": count, "sum": patches.sum(1), "outer": outer}


def summed(patches):
    """Moments of all patches [..., D] together."""
    patches = patches.double().flatten(0, -2)
    return Moments(len(patches), patches.sum(0), patches.T @ patches)


def predicted(detector, features=TEST):
    return detector.predict(detector.observe(features))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_the_subspace_is_that_of_scikit_learn(share):
    found = subspacead.subspace(summed(PATCHES), share)
    expected = PCA(svd_solver="full").fit(PATCHES.flatten(0, 1).double().numpy())
    count = int((expected.explained_variance_ratio_.cumsum() < share).sum()) + 1
    assert relative_error(found.mean, expected.mean_) < 1e-12
    assert relative_error(found.eigenvalues, expected.explained_variance_) < 1e-10
    assert found.components.shape == (12, count)
    components = expected.components_[:count]
    projector = found.components @ found.components.T
    assert relative_error(projector, components.T @ components) < 1e-10


def test_the_covariance_can_be_around_another_mean():
    mean, patches = torch.linspace(0, 1, 12).double(), PATCHES.double().flatten(0, 1)
    found = subspacead.subspace(summed(PATCHES), 1.0, mean)
    covariance = (patches - mean).T @ (patches - mean) / (len(patches) - 1)
    rebuilt = found.components * found.eigenvalues @ found.components.T
    assert relative_error(rebuilt, covariance) < 1e-12
    assert found.mean is mean


def test_a_subspace_has_no_more_components_than_the_rank_of_the_covariance():
    line = torch.arange(5.0)[:, None] * torch.ones(3)
    assert subspacead.subspace(summed(line), 1.0).components.shape[1] <= 3
    still = subspacead.subspace(summed(torch.ones(5, 3)), 0.99)
    assert still.components.shape == (3, 0)
    found = subspacead.residuals(
        torch.full((1, 1, 1, 3), 2.0), still.mean.float(), still.components.float()
    )
    assert found.item() == 3


def test_maps_are_the_residuals_of_patches():
    detector = fitted(subspacead, OPTIONS, moments(PATCHES))
    _, maps, components = predicted(detector)
    model = PCA(0.9, svd_solver="full").fit(PATCHES.flatten(0, 1).double().numpy())
    test = TEST["patch"].flatten(0, 2).double().numpy()
    rebuilt = model.inverse_transform(model.transform(test))
    expected = np.square(test - rebuilt).sum(1)
    assert relative_error(maps.flatten(), expected) < 1e-5
    assert components == {}


def test_a_score_is_the_mean_of_the_largest_pixels():
    detector = fitted(subspacead, OPTIONS, moments(PATCHES))
    test = {"patch": normal(subspacead.BLOCK + 3, 4, 6, 12)}
    scores, maps, _ = predicted(detector, test)
    full = np.sort(full_maps(maps.numpy(), 40, detector.sigma).reshape(len(maps), -1))
    assert relative_error(scores, full[:, -16:].mean(1)) < 1e-6


def test_a_detector_is_its_subspace():
    detector = fitted(subspacead, OPTIONS, moments(PATCHES))
    assert detector.support.keys() == {"count", "sum", "outer"}
    assert {n: x.dtype for n, x in detector.learned.items()} == {
        "mean": torch.float32,
        "components": torch.float32,
        "top_share": torch.float64,
    }
    assert detector.learned["top_share"] == 0.01
    assert detector.sigma == pytest.approx(0.81 * 40 / 672)


def test_detectors_of_nested_draws_observe_what_each_does():
    detectors = [fitted(subspacead, OPTIONS, moments(PATCHES[:k])) for k in (2, 1, 4)]
    found = subspacead.observe_all(detectors, TEST)
    assert not same(found[0], found[2])
    for observed, detector in zip(found, detectors, strict=True):
        assert same(observed, detector.observe(TEST))


def test_a_restored_detector_predicts_the_same():
    support = {name: x.numpy() for name, x in moments(PATCHES).items()}
    test = {"patch": TEST["patch"].numpy().astype(np.float16)}
    detector = fitted(subspacead, OPTIONS, support)
    assert_restored(subspacead, OPTIONS, detector, test)


def test_no_images_have_no_predictions():
    detector = fitted(subspacead, OPTIONS, moments(PATCHES))
    scores, maps, _ = predicted(detector, {"patch": torch.empty(0, 4, 6, 12)})
    assert (scores.shape, maps.shape) == ((0,), (0, 4, 6))


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match="device"):
        subspacead.create("cls", OPTIONS | {"device": "tpu"}, None)


@pytest.mark.parametrize("name", ["subspacead_bottle_k1", "subspacead_transistor_k2"])
def test_predictions_are_those_of_the_published_code(name):
    _, expected, meta = published(name)
    first = summed(expected["support_features_mean"])
    second = first
    if meta["augment_count"]:
        second = summed(expected["support_features_covariance"])
    mean = first.total / first.count
    found = subspacead.subspace(second, meta["explained_variance"], mean)
    components = expected["pca_components"]
    assert relative_error(found.mean, expected["pca_mean"]) < 1e-12
    assert relative_error(found.eigenvalues, expected["pca_eigenvalues"]) < 1e-12
    projector = found.components @ found.components.T
    assert found.components.shape == components.shape
    assert relative_error(projector, components @ components.T) < 1e-10
    learned = {"mean": mean.float(), "components": found.components.float()}
    maps = subspacead.residuals(expected["test_features"], **learned)
    full = blurred(maps, meta["resolution"])
    assert relative_error(maps, expected["patch_residuals"]) < 1e-6
    assert relative_error(full[meta["map_images"]], expected["maps"]) < 1e-6
    scores = subspacead.pixel_scores(full)
    assert relative_error(scores, expected["scores"]) < 1e-6


def blurred(maps, resolution):
    """Full maps with the published blur, of 3 pixels and sigma 4."""
    blur = smoothing_matrix(resolution, 4, radius=1, edge_twice=False)
    matrix = torch.from_numpy(blur @ bilinear_matrix(maps.shape[1], resolution)).float()
    return matrix @ maps @ matrix.T
