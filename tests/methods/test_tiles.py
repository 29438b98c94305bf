"""Tiles of images: what is compared with what, and one map of all."""

import numpy as np
import pytest
import torch

from fsad.data.tiles import shares
from fsad.data.views import View
from fsad.methods import anomalydino, parts, patchcore, subspacead, tiles
from fsad.methods.memory import nearest
from fsad.methods.tiles import Search
from methods.cases import fitted, normal, same

COUNT, GRID = 3, (2, 3, 4, 5)  # images; rows and columns of tiles, and of patches
PATCHES, BANK = normal(COUNT, *GRID, 8), normal(2, *GRID, 8)
SHARED = {"position": "any", "whole": False, "resolution": 24, "device": "cpu"}
METHODS = {
    "patchcore": (patchcore, {"coreset": 1.0, "neighbours": 1}),
    "coreset": (patchcore, {"coreset": 0.3, "neighbours": 2}),
    "anomalydino": (anomalydino, {"mask": "none"}),
    "masked": (anomalydino, {"mask": "2d"}),
    "subspacead": (subspacead, {"explained_variance": 0.9}),
}


def placed(patches, shape=(20, 30), overlap=0.0):
    """Features of tiles, and where they lie in images of this shape."""
    view = View("square", 8, grid=patches.shape[-5:-3], overlap=overlap)
    spans = shares(np.array([shape] * len(patches)), view)
    return {"patch": patches, **dict(zip(tiles.SPANS, spans, strict=True))}


def bank(place):
    return tiles.bank_of({"patch": BANK}, "patch", place)


def searched(features, position):
    return tiles.nearest_patches(features, "patch", [bank], Search("cosine", position))


def test_tiles_side_by_side_are_the_map():
    maps = normal(COUNT, *GRID)
    found = tiles.joined(maps, placed(PATCHES))
    assert torch.allclose(found, tiles.mosaic(maps), atol=1e-6)
    assert found.shape == (COUNT, 8, 15)
    assert torch.equal(tiles.apart(tiles.mosaic(maps), GRID), maps)


def test_where_tiles_overlap_their_mean_is_taken():
    maps = torch.ones(1, 1, 2, 2, 6) * torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1)
    found = tiles.joined(maps, placed(maps[..., None], overlap=0.5))
    assert set(found.unique().tolist()) == {1.0, 2.0, 3.0}
    assert found[0, 0].tolist() == [1] * 4 + [2] * 4 + [3] * 4


def test_maps_of_whole_images_stay_as_they_are():
    maps = normal(2, 4, 5)
    assert tiles.joined(maps, {}) is maps


def test_any_tile_is_compared_with_all():
    (found,) = searched(placed(PATCHES), "any")
    *_, expected = nearest(PATCHES.flatten(1, -2), BANK.flatten(1, -2), "cosine")
    assert torch.equal(found.flatten(1), expected)


def test_a_near_tile_is_compared_with_the_same_one_alone():
    (found,) = searched(placed(PATCHES), "near")
    for row, column in np.ndindex(GRID[:2]):
        own = BANK[:, row, column].flatten(1, 2)
        *_, expected = nearest(PATCHES[:, row, column].flatten(1, 2), own, "cosine")
        assert torch.equal(found[:, row, column].flatten(1), expected)


def test_images_of_another_number_of_tiles_find_the_tile_at_their_place():
    wide = normal(1, 2, 4, 4, 5, 8)
    (found,) = searched(placed(wide), "near")
    own = BANK[:, 1, 2].flatten(1, 2)  # the last of three for the last of four
    *_, expected = nearest(wide[:, 1, 3].flatten(1, 2), own, "cosine")
    assert torch.equal(found[:, 1, 3].flatten(1), expected)


@pytest.mark.parametrize("position", ["any", "near"])
def test_patches_outside_a_region_are_neither_scored_nor_compared_with(position):
    inside = torch.zeros(COUNT, *GRID, dtype=torch.bool)
    inside[:, 0, :, 1:3] = True
    features = placed(PATCHES) | {"inside": inside}
    support = {"patch": BANK.clone(), "inside": inside[:2]}

    def regional(place):
        return tiles.bank_of(support, "patch", place)

    search = Search("cosine", position)
    (found,) = tiles.nearest_patches(features, "patch", [regional], search)
    assert (found[~inside] == 0).all()
    assert (found[inside] > 0).all()
    support["patch"][~inside[:2]] = 100.0
    (same_bank,) = tiles.nearest_patches(features, "patch", [regional], search)
    assert torch.equal(found, same_bank)


def summed(patches):
    """What SubspaceAD reads of support images."""
    flat = patches.flatten(-3, -2).double()
    count = flat.new_full(flat.shape[:-2], flat.shape[-2])
    return {"count": count, "sum": flat.sum(-2), "outer": flat.mT @ flat}


def of_support(name, patches):
    if name == "subspacead":
        return summed(patches)
    copies = patches[:, None] if METHODS[name][0] is anomalydino else patches
    return {"patch": copies}


@pytest.mark.parametrize("position", ["any", "near"])
@pytest.mark.parametrize("name", METHODS)
def test_one_tile_is_the_whole_image(name, position):
    module, own = METHODS[name]
    one, whole = 5 * normal(COUNT, 1, 1, 4, 5, 8), SHARED | own
    of_tile = fitted(module, whole | {"position": position}, of_support(name, one[:2]))
    plain = fitted(module, whole, of_support(name, one[:2, 0, 0]))
    found = of_tile.predict(of_tile.observe(placed(one)))
    expected = plain.predict(plain.observe({"patch": one[:, 0, 0]}))
    assert torch.allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-5)
    assert torch.allclose(found.scores, expected.scores, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "masked"])
def test_near_tiles_have_detectors_of_their_own(name):
    """Each gives what it gives as the only tile of its images."""
    module, own = METHODS[name]
    options = SHARED | own | {"position": "near"}
    detector = fitted(module, options, of_support(name, BANK))
    (observed,) = detector.observe(placed(PATCHES)).values()
    for row, column in np.ndindex(GRID[:2]):
        alone = fitted(module, SHARED | own, of_support(name, BANK[:, row, column]))
        (expected,) = alone.observe({"patch": PATCHES[:, row, column]}).values()
        found = tiles.apart(observed, GRID)[:, row, column]
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_with_the_whole_image_the_map_is_the_mean_of_both(name):
    module, own = METHODS[name]
    options = SHARED | own | {"whole": True}
    test, support = placed(PATCHES), of_support(name, BANK)
    whole_test, whole_bank = normal(COUNT, 4, 5, 8), normal(2, 4, 5, 8)
    of_whole = {f"whole_{n}": x for n, x in of_support(name, whole_bank).items()}
    (step,) = parts.create(module, "cls", options, None).fit(support | of_whole, (1, 2))
    both = test | {"whole_patch": whole_test}
    found = step.detector.predict(step.detector.observe(both))
    tiled = fitted(module, options, support)
    plain = fitted(module, options, of_support(name, whole_bank))
    maps = [
        detector.predict(detector.observe(x)).maps
        for detector, x in ((tiled, test), (plain, {"patch": whole_test}))
    ]
    upsampled = torch.nn.functional.interpolate(
        maps[1][:, None], maps[0].shape[1:], mode="bilinear"
    )[:, 0]
    assert torch.allclose(found.maps, (maps[0] + upsampled) / 2, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.scores, tiled.scored(found).scores)
    kept = step.detector.support, step.detector.learned
    restored = parts.restore(module, "cls", options, kept)
    assert same(restored.observe(both), step.detector.observe(both))
    (together,) = parts.observe_all(module, [step.detector], both)
    assert same(together, step.detector.observe(both))
