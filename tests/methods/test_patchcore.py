import numpy as np
import pytest
import torch

from fsad.errors import UserError
from fsad.methods import patchcore
from fsad.methods.maps import full_maps
from helpers import relative_error
from methods.cases import assert_restored, fitted, normal, published, same

OPTIONS = {"coreset": 1.0, "neighbours": 1, "position": "any"}
OPTIONS |= {"resolution": 64, "device": "cpu"}
SUPPORT = {"patch": normal(4, 3, 5, 12)}
TEST = {"patch": normal(2, 4, 6, 12)}


def predicted(detector, features=TEST):
    return detector.predict(detector.observe(features))


@pytest.mark.parametrize("neighbours", [1, 5])
def test_maps_are_squared_distances_to_the_nearest_patches(neighbours):
    detector = fitted(patchcore, OPTIONS | {"neighbours": neighbours}, SUPPORT)
    scores, maps, components = predicted(detector)
    pairs = torch.cdist(TEST["patch"].flatten(1, 2), SUPPORT["patch"].flatten(0, 2))
    expected = pairs.square().sort(-1).values[..., :neighbours].mean(-1)
    assert relative_error(maps.flatten(1), expected) < 1e-5
    assert torch.equal(scores, maps.amax((1, 2)))
    assert maps.shape == (2, 4, 6)
    assert components == {}


def test_without_a_coreset_a_detector_is_its_support_features():
    detector = fitted(patchcore, OPTIONS, SUPPORT)
    assert same(detector.support, SUPPORT)
    assert detector.learned == {}
    assert detector.sigma == 1


def test_with_a_coreset_a_detector_is_its_bank():
    detector = fitted(patchcore, OPTIONS | {"coreset": 0.25}, SUPPORT)
    assert detector.support == {}
    bank, patches = detector.learned["bank"], SUPPORT["patch"].flatten(0, 2)
    assert bank.shape == (15, 12)
    assert len(bank.unique(dim=0)) == 15
    assert (bank[:, None] == patches).all(2).any(1).all()
    pairs = torch.cdist(TEST["patch"].flatten(1, 2), bank)
    assert (
        relative_error(predicted(detector).maps.flatten(1), pairs.amin(-1) ** 2) < 1e-5
    )


def test_a_coreset_depends_on_its_key():
    options = OPTIONS | {"coreset": 0.1}
    banks = [
        fitted(patchcore, options, SUPPORT, key).learned["bank"]
        for key in ((1, 2), (1, 2), (1, 3))
    ]
    assert torch.equal(banks[0], banks[1])
    assert not torch.equal(banks[0], banks[2])


def naive_coreset(points, count, start_points):
    points = np.asarray(points, np.float64)
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    least, taken = distance[:, start_points].mean(1), []
    for _ in range(count):
        taken.append(int(least.argmax()))
        least = np.minimum(least, distance[taken[-1]])
    return taken


def test_the_coreset_takes_the_farthest_patch_each_time():
    points, projection, starts = normal(40, 6), normal(3, 6), np.array([4, 0, 17])
    found = patchcore.greedy_coreset(points, 0.3, None, starts)
    assert found.dtype == torch.int64
    assert found.tolist() == naive_coreset(points, 12, starts)
    found = patchcore.greedy_coreset(points, 0.3, projection, starts)
    assert found.tolist() == naive_coreset(points @ projection.T, 12, starts)


def test_a_coreset_is_never_empty():
    found = patchcore.greedy_coreset(normal(7, 3), 0.01, None, np.array([1]))
    assert found.tolist() == naive_coreset(normal(7, 3), 1, [1])


def test_draws_of_a_coreset():
    projection, starts = patchcore.coreset_draws((300, 1024), (1, 2))
    assert projection.shape == (128, 1024)
    assert projection.dtype == torch.float32
    assert 0.99 / 32 < projection.abs().max() <= 1 / 32
    assert len(set(starts.tolist())) == 10
    assert max(starts) < 300
    projection, starts = patchcore.coreset_draws((4, 128), (1, 2))
    assert projection is None
    assert sorted(starts) == [0, 1, 2, 3]


@pytest.mark.parametrize("coreset", [1.0, 0.25])
def test_detectors_of_nested_draws_observe_what_each_does(coreset):
    options = OPTIONS | {"coreset": coreset, "neighbours": 2}
    draws = [{"patch": SUPPORT["patch"][:k]} for k in (2, 1, 4)]
    detectors = [fitted(patchcore, options, draw) for draw in draws]
    found = patchcore.observe_all(detectors, TEST)
    for observed, detector in zip(found, detectors, strict=True):
        assert same(observed, detector.observe(TEST))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("coreset", [1.0, 0.25])
def test_a_restored_detector_predicts_the_same(coreset, dtype):
    options = OPTIONS | {"coreset": coreset}
    support, test = (
        {"patch": x["patch"].numpy().astype(dtype)} for x in (SUPPORT, TEST)
    )
    detector = fitted(patchcore, options, support)
    assert_restored(patchcore, options, detector, test)


def test_no_images_have_no_predictions():
    scores, maps, _ = predicted(
        fitted(patchcore, OPTIONS, SUPPORT), {"patch": torch.empty(0, 4, 6, 12)}
    )
    assert (scores.shape, maps.shape) == ((0,), (0, 4, 6))


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match="device"):
        patchcore.create("cls", OPTIONS | {"device": "tpu"}, None)


@pytest.mark.parametrize("name", ["patchcore_bottle_k1", "patchcore_screw_k2"])
def test_predictions_are_those_of_the_published_code(name):
    inputs, expected, meta = published(name)
    rows, columns = expected["patch_scores"].shape[1:]
    support, test = (
        expected[f"{part}_features"].unflatten(0, (-1, rows, columns))
        for part in ("support", "test")
    )
    learned, patches = {}, support.flatten(0, 2)
    if meta["coreset"] < 1:
        draws = inputs["projection"], inputs["start_points"]
        indices = patchcore.greedy_coreset(patches, meta["coreset"], *draws)
        assert torch.equal(indices, expected["coreset_indices"])
        learned = {"bank": patches[indices]}
    options = OPTIONS | {"neighbours": meta["num_nn"]}
    detector = patchcore.restore("cls", options, {"patch": support}, learned)
    scores, maps, _ = predicted(detector, {"patch": test})
    full = full_maps(maps.numpy(), expected["maps"].shape[-1], meta["sigma"])
    assert relative_error(maps, expected["patch_scores"]) < 2e-5
    assert relative_error(scores, expected["image_scores"]) < 1e-5
    assert relative_error(full, expected["maps"]) < 1e-5
