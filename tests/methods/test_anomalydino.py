import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.decomposition import PCA

from fsad.errors import UserError
from fsad.methods import anomalydino
from fsad.methods.maps import full_maps
from helpers import relative_error
from methods.cases import assert_restored, fitted, normal, published, same

OPTIONS = {"mask": "none", "position": "any", "resolution": 225, "device": "cpu"}
SUPPORT = {"patch": normal(4, 2, 3, 5, 12)}
TEST = {"patch": normal(2, 4, 6, 12)}


def predicted(detector, features=TEST):
    return detector.predict(detector.observe(features))


def scene(grid=(10, 12), sign=1.0, height=40.0):
    """Patches [1, gh, gw, 6] of an object in the centre, with gaps, and a stray one."""
    shape = np.zeros(grid)
    shape[2:8, 3:10] = 1
    shape[3, 5] = shape[6, 9] = 0
    shape[0, 0] = shape[9, 11] = 1
    patch = normal(1, *grid, 6)
    patch[..., 2] += sign * height * torch.from_numpy(shape - shape.mean())
    return patch


@pytest.mark.parametrize("grid", [(4, 6), (15, 15)])
def test_maps_are_cosine_distances_and_scores_the_mean_of_the_largest(grid):
    test = {"patch": normal(2, *grid, 12)}
    scores, maps, components = predicted(fitted(anomalydino, OPTIONS, SUPPORT), test)
    bank = F.normalize(SUPPORT["patch"].flatten(0, 3), dim=-1)
    cosines = F.normalize(test["patch"], dim=-1) @ bank.T
    assert relative_error(maps, 1 - cosines.amax(-1)) < 1e-5
    count = max(1, int(0.01 * maps[0].numel()))
    expected = maps.flatten(1).sort(descending=True).values[:, :count].mean(1)
    assert relative_error(scores, expected) < 1e-6
    assert components == {}


def test_a_detector_is_its_support_features():
    detector = fitted(anomalydino, OPTIONS, SUPPORT)
    assert same(detector.support, SUPPORT)
    assert detector.learned == {}
    assert detector.sigma == 1


def test_the_first_component_is_that_of_scikit_learn():
    patch = torch.cat([normal(2, 5, 7, 9), normal(1, 5, 7, 9) + 30])
    found = anomalydino.first_component(patch)
    assert found.shape == (3, 5, 7)
    assert found.dtype == torch.float32
    for component, image in zip(found, patch.flatten(1, 2), strict=True):
        expected = PCA(1, svd_solver="full").fit_transform(image.double().numpy())
        assert relative_error(component.flatten(), expected[:, 0]) < 1e-5


def naive_foreground(patch, how):
    """Foreground of one image by scikit-learn and SciPy."""
    rows, columns, _ = patch.shape
    component = PCA(1, svd_solver="full").fit_transform(patch.flatten(0, 1).numpy())
    component = component.reshape(rows, columns)
    shown = component > 10
    centre = (
        slice(int(0.2 * rows), int(0.8 * rows)),
        slice(int(0.2 * columns), int(0.8 * columns)),
    )
    if shown[centre].mean() <= 0.35:
        shown = -component > 10
    window = np.ones((3, 3) if how == "2d" else 3, bool)
    grid = shown if how == "2d" else shown.reshape(-1)
    dilated = ndimage.binary_dilation(ndimage.binary_dilation(grid, window), window)
    closed = ndimage.binary_erosion(dilated, window, border_value=1)
    return closed.reshape(rows, columns)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("how", ["published", "2d"])
def test_the_foreground_is_the_component_after_morphology(how, sign):
    patch = scene(sign=sign)
    found = anomalydino.foreground(patch, how)
    assert found.dtype == torch.bool
    assert np.array_equal(found[0].numpy(), naive_foreground(patch[0], how))
    assert found[0, 3, 5]  # a gap is closed
    assert found[0, 1, 0] == (how == "2d")  # below the stray patch
    assert found[0, 8, 11] == (how == "2d")  # above the other
    assert 0 < found.float().mean() < 1


def test_the_published_morphology_goes_on_from_row_to_row():
    patch = scene()
    patch[0, 4, 11, 2] += 40
    assert anomalydino.foreground(patch, "published")[0, 5, 0]
    assert not anomalydino.foreground(patch, "2d")[0, 5, 0]


def test_the_background_is_at_distance_zero():
    test, options = {"patch": scene()}, OPTIONS | {"mask": "2d"}
    support = {"patch": normal(1, 1, 3, 3, 6)}
    scores, maps, _ = predicted(fitted(anomalydino, options, support), test)
    plain = predicted(fitted(anomalydino, OPTIONS, support), test).maps
    assert torch.equal(maps, plain * anomalydino.foreground(test["patch"], "2d"))
    assert scores[0] == maps.max()


def test_an_image_without_foreground_has_score_zero():
    test, options = {"patch": torch.ones(1, 4, 4, 6)}, OPTIONS | {"mask": "published"}
    support = {"patch": normal(1, 1, 3, 3, 6)}
    scores, maps, _ = predicted(fitted(anomalydino, options, support), test)
    assert scores.tolist() == [0]
    assert not maps.any()


@pytest.mark.parametrize("mask", ["none", "published", "2d"])
def test_detectors_of_nested_draws_observe_what_each_does(mask):
    draws = [{"patch": SUPPORT["patch"][:k]} for k in (2, 1, 4)]
    options, test = OPTIONS | {"mask": mask}, {"patch": 30 * TEST["patch"]}
    detectors = [fitted(anomalydino, options, draw) for draw in draws]
    found = anomalydino.observe_all(detectors, test)
    assert not same(found[0], found[2])
    for observed, detector in zip(found, detectors, strict=True):
        assert same(observed, detector.observe(test))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("mask", ["none", "2d"])
def test_a_restored_detector_predicts_the_same(mask, dtype):
    options = OPTIONS | {"mask": mask}
    support, test = (
        {"patch": x["patch"].numpy().astype(dtype)} for x in (SUPPORT, TEST)
    )
    detector = fitted(anomalydino, options, support)
    assert_restored(anomalydino, options, detector, test)


@pytest.mark.parametrize("mask", ["none", "published"])
def test_no_images_have_no_predictions(mask):
    detector = fitted(anomalydino, OPTIONS | {"mask": mask}, SUPPORT)
    scores, maps, _ = predicted(detector, {"patch": torch.empty(0, 4, 6, 12)})
    assert (scores.shape, maps.shape) == ((0,), (0, 4, 6))


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match="device"):
        anomalydino.create("cls", OPTIONS | {"device": "tpu"}, None)


@pytest.mark.parametrize("name", ["anomalydino_carpet_k2", "anomalydino_screw_k2"])
def test_predictions_are_those_of_the_published_code(name):
    inputs, expected, meta = published(name)
    grid = meta["grid"]
    copies = meta["shots"], len(meta["rotation_angles"])
    support = expected["support_features"].unflatten(1, grid).unflatten(0, copies)
    test = expected["test_features"].unflatten(1, grid)
    options = OPTIONS | {"mask": "published" if meta["masking"] else "none"}
    detector = anomalydino.restore("cls", options, {"patch": support}, {})
    scores, maps, _ = predicted(detector, {"patch": test})
    chosen, raw = maps[meta["map_images"]].numpy(), inputs["test"].shape[1:3]
    full = full_maps(chosen, tuple(raw), meta["gaussian_sigma"])
    assert relative_error(maps, expected["patch_distances"]) < 5e-5
    assert relative_error(scores, expected["scores"]) < 2e-5
    assert relative_error(full, expected["maps"]) < 5e-5
    if meta["masking"]:
        component = anomalydino.first_component(test).flatten(1)
        assert relative_error(component, expected["first_component"]) < 1e-6
        shown = anomalydino.foreground(test, "published").flatten(1)
        assert torch.equal(shown, expected["foreground"])
