import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fsad.data.ensemble import ABNORMAL, NORMAL, sentences
from fsad.data.words import class_tokens
from fsad.errors import UserError
from fsad.methods import parts, winclip
from fsad.methods.base import Text
from fsad.methods.tiles import SPANS
from fsad.methods.winclip import over_patches
from helpers import NEEDS_GPU, relative_error
from methods.cases import normal, published, same

OPTIONS = {"scales": [2, 3], "state_words": "published", "position": "any"}
OPTIONS |= {"whole": False, "resolution": 64, "device": "cpu", "precision": "float32"}
GRID, WIDTHS = (4, 6), (12, 10)  # of patches; of these, and of windows
LEARNED = {"directions": normal(2, WIDTHS[1])}
STATES = ["bent {}", "{} with a scratch"]


def features(*count, grid=GRID):
    """Random features of images, or of tiles of them."""
    rows, columns = grid
    sides = {f"windows_{s}": (rows - s + 1, columns - s + 1) for s in (2, 3)}
    windows = {name: normal(*count, *side, WIDTHS[1]) for name, side in sides.items()}
    patch = normal(*count, *grid, WIDTHS[0])
    return {"global": normal(*count, WIDTHS[1]), "patch": patch, **windows}


TEST, SUPPORT = features(3), features(4)
TILES = features(3, 2, 2)
TILES |= dict.fromkeys(SPANS, np.array([[[0.0, 0.5], [0.5, 1.0]]] * 3))


def restored(support, **options):
    return winclip.restore("cls", OPTIONS | options, support, LEARNED)


def first(arrays, count):
    return {name: x[:count] for name, x in arrays.items()}


def predicted(detector, test=TEST):
    return detector.predict(detector.observe(test))


def naive_over_patches(values, scale, grid=GRID):
    """Harmonic mean over the windows of each patch, one after the other."""
    found = torch.empty(len(values), *grid)
    for row, column in np.ndindex(*grid):
        rows, columns = (
            slice(max(0, place - scale + 1), place + 1) for place in (row, column)
        )
        held = values[:, rows, columns].flatten(1).double()
        found[:, row, column] = held.shape[1] / (1 / held).sum(1)
    return found


def naive_text(values):
    cosines = F.cosine_similarity(values[..., None, :], LEARNED["directions"], dim=-1)
    return torch.softmax(cosines / 0.07, -1)[..., 1]


def naive_maps(test, support):
    """Text map, scores of images, and visual map."""
    scores = naive_text(test["global"])
    terms, visual = [1 / scores[:, None, None].expand(-1, *GRID)], []
    for scale, name in ((1, "patch"), (2, "windows_2"), (3, "windows_3")):
        windows, bank = test[name], support[name].flatten(0, 2)
        if scale > 1:
            terms.append(1 / naive_over_patches(naive_text(windows), scale))
        cosines = F.cosine_similarity(windows[..., None, :], bank, dim=-1)
        visual.append(naive_over_patches((1 - cosines.amax(-1)) / 2, scale))
    return 3 / sum(terms), scores, sum(visual) / 3


def test_predictions_are_those_of_the_definition():
    text, images, visual = naive_maps(TEST, SUPPORT)
    scores, maps, components = predicted(restored(SUPPORT))
    assert relative_error(maps, (text + visual) / 2) < 1e-5
    assert relative_error(scores, (images + visual.amax((1, 2))) / 2) < 1e-5
    assert components == {}


@pytest.mark.parametrize("support", [{}, first(SUPPORT, 0)])
def test_zero_shots_have_the_text_alone(support):
    text, images, _ = naive_maps(TEST, SUPPORT)
    detector = restored(support)
    assert detector.support == {}
    scores, maps, _ = predicted(detector)
    assert relative_error(maps, text) < 1e-5
    assert relative_error(scores, images) < 1e-5


def test_a_patch_has_the_harmonic_mean_of_its_windows():
    values = normal(2, 3, 5).abs()
    assert relative_error(over_patches(values, 2), naive_over_patches(values, 2)) < 1e-6
    values[0, 1, 2] = 0
    found = over_patches(values, 2)
    assert (found[0] == 0).nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert torch.equal(over_patches(values, 1), values)


def test_detectors_of_nested_draws_observe_what_each_does():
    detectors = [restored(first(SUPPORT, count)) for count in (2, 0, 1, 4)]
    found = winclip.observe_all(detectors, TEST)
    assert found[1].keys() == found[0].keys() - {"distances"}
    for observed, detector in zip(found, detectors, strict=True):
        assert same(observed, detector.observe(TEST))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_restored_detector_predicts_the_same(dtype):
    test, support = (
        {name: x.numpy().astype(dtype) for name, x in arrays.items()}
        for arrays in (TEST, SUPPORT)
    )
    detector = restored(support)
    again = winclip.restore("seg", OPTIONS, detector.support, detector.learned)
    assert same(again.observe(test), detector.observe(test))
    assert again.sigma == detector.sigma == 0
    assert detector.support.keys() == {"patch", "windows_2", "windows_3"}


@NEEDS_GPU
def test_predictions_of_a_gpu_are_those_of_the_cpu():
    expected = predicted(restored(SUPPORT))
    found = predicted(restored(SUPPORT, device="cuda"))
    assert relative_error(found.maps.cpu(), expected.maps) < 1e-5
    assert relative_error(found.scores.cpu(), expected.scores) < 1e-5


def test_no_images_have_no_predictions():
    scores, maps, _ = predicted(restored(SUPPORT), features(0))
    assert (scores.shape, maps.shape) == ((0,), (0, *GRID))


def test_one_tile_is_the_whole_image():
    tiled = {name: x[:, None, None] for name, x in TEST.items()}
    tiled |= dict.fromkeys(SPANS, np.array([[[0.0, 1.0]]] * 3))
    support = {name: x[:, None, None] for name, x in SUPPORT.items()}
    for position in ("any", "near"):
        found = predicted(restored(support, position=position), tiled)
        expected = predicted(restored(SUPPORT))
        assert torch.allclose(found.maps, expected.maps, atol=1e-6)
        assert torch.allclose(found.scores, expected.scores, atol=1e-6)


def test_the_text_score_of_an_image_is_the_highest_of_its_tiles():
    detector = restored({})
    scores, maps, _ = predicted(detector, TILES)
    each = naive_text(TILES["global"])
    assert relative_error(scores, each.amax((1, 2))) < 1e-6
    assert maps.shape == (3, 8, 12)


@pytest.mark.parametrize("position", ["any", "near"])
def test_patches_outside_a_region_are_neither_scored_nor_compared_with(position):
    inside = torch.zeros(2, 2, *GRID, dtype=torch.bool)
    inside[0, :, 1:3] = True
    test = TILES | {"inside": inside.expand(3, -1, -1, -1, -1)}
    support = features(4, 2, 2) | {"inside": inside.expand(4, -1, -1, -1, -1)}
    scores, maps, _ = predicted(restored(support, position=position), test)
    assert (maps[:, [0, 3, 4, 5, 6, 7]] == 0).all()
    assert (maps[:, 1:3] > 0).all()
    changed = {name: x.clone() for name, x in support.items()}
    for name in ("patch", "windows_2", "windows_3"):
        changed[name][:, 1] = TILES[name][:1, 0]  # outside, and near to test images
    again = predicted(restored(changed, position=position), test)
    assert torch.equal(again.maps, maps)
    assert torch.equal(again.scores, scores)


def test_with_the_whole_image_scores_and_maps_are_means_of_both():
    options = OPTIONS | {"whole": True}
    both = TILES | {f"whole_{name}": x for name, x in TEST.items()}
    learned = LEARNED | {f"whole_{name}": x for name, x in LEARNED.items()}
    support = features(4, 2, 2)
    known = support | {f"whole_{name}": x for name, x in SUPPORT.items()}
    detector = parts.restore(winclip, "cls", options, (known, learned))
    found = predicted(detector, both)
    tiles = predicted(restored(support), TILES)
    whole = predicted(restored(SUPPORT), TEST)
    assert relative_error(found.scores, (tiles.scores + whole.scores) / 2) < 1e-6
    assert found.maps.shape == tiles.maps.shape


@pytest.fixture(scope="module")
def text(towers):
    return Text(towers[1], class_tokens("metal nut", STATES))


def encoded(clip, states):
    """Mean feature of open_clip of states of a metal nut, in all templates."""
    import open_clip

    phrases = [f"{sentence}." for sentence in sentences("metal nut", states)]
    with torch.inference_mode():
        return clip.encode_text(open_clip.tokenize(phrases)).mean(0)


def test_directions_are_means_of_what_open_clip_encodes(clip, text):
    for chosen, own in (("published", ABNORMAL), ("own", STATES)):
        options = OPTIONS | {"state_words": chosen}
        found = winclip.create("cls", options, text).directions
        for direction, group in zip(found, (NORMAL, own), strict=True):
            assert relative_error(direction, encoded(clip, group)) < 1e-5


def test_a_fit_keeps_support_images_and_directions(text):
    method = winclip.create("cls", OPTIONS, text)
    (step,) = method.fit(SUPPORT, (1, 2))
    assert step[:2] == (1, {})
    kept = {name: x for name, x in SUPPORT.items() if name != "global"}
    assert same(step.detector.support, kept)
    assert same(step.detector.learned, {"directions": method.directions})


def test_an_unknown_device_is_refused(text):
    with pytest.raises(UserError, match="device"):
        winclip.create("cls", OPTIONS | {"device": "tpu"}, text)


@pytest.mark.parametrize("name", ["winclip_bottle_k2", "winclip_metal_nut_k0"])
def test_predictions_are_those_of_the_published_code(name):
    _, expected, _ = published(name)
    side = round(expected["patch_embeddings"].shape[1] ** 0.5)
    rows = {"patch": (expected["patch_embeddings"], side)}
    for scale in (2, 3):
        embedded = expected[f"window_embeddings_{scale}"]
        rows[f"windows_{scale}"] = embedded, side - scale + 1
    test = {n: x.unflatten(1, (count, count)) for n, (x, count) in rows.items()}
    test["global"] = expected["image_embeddings"]
    learned = {"directions": expected["text_features"]}
    observed = winclip.restore("cls", OPTIONS, {}, learned).observe(test)
    assert relative_error(observed["text_maps"], expected["text_map"]) < 1e-5
    assert relative_error(observed["text_scores"], expected["image_scores_zero"]) < 1e-5
