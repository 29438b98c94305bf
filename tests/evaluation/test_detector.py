import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import fsad
from evaluation.cached import seen
from fsad.backbones.embed import embed_batch
from fsad.backbones.tower import load_tensors, save_tensors, save_tower
from fsad.errors import UserError
from fsad.evaluation.detector import detect, view_of
from fsad.evaluation.detector_files import load_detectors, save_detectors
from fsad.methods.maps import full_maps
from helpers import NEEDS_GPU, OPTIONS, relative_error


@pytest.fixture(params=["cls", "seg"])
def detector(request, make_detector, pixels):
    """A detector whose memory is the first image, mirrored."""
    described = {"threshold": 0.25, "map_range": [0.0, 0.5], "calibrated": {}}
    return make_detector(pixels[:1, :, ::-1].copy(), request.param, **described)


def plain(detector, pixels):
    """Scores and maps by the formulas alone, patch by patch."""
    found = embed_batch(detector.network, pixels, detector.readout)
    found = {name: feature.numpy() for name, feature in found.items()}
    distances = [
        (1 - found[name] @ bank.flatten(0, 2).numpy().T).min(-1) / 2
        for name, bank in detector.fitted.support.items()
    ]
    distance = np.mean(distances, 0)
    task = detector.described["task"]
    compared = found["global" if task == "cls" else "patch"]
    logits = 4.6 * compared @ detector.fitted.learned["prompts"].numpy().T
    text = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    text = text[..., 1]
    if task == "seg":
        fused = 1 / (1 / text + 1 / distance)
        maps = full_maps(fused, 16, sigma=4)
        return maps.max((1, 2)), maps
    large = F.interpolate(torch.from_numpy(distance)[:, None], size=16, mode="bilinear")
    peaks = large.amax((1, 2, 3)).numpy()
    return 1 / (1 / text + 1 / peaks), full_maps(distance, 16, sigma=4)


def test_scores_and_maps_are_those_of_the_formulas(detector, pixels):
    found = detect(detector, seen(pixels))
    for ours, expected in zip(found, plain(detector, pixels), strict=True):
        assert ours.dtype == np.float32
        assert relative_error(ours, expected) < 1e-5


def test_an_image_scores_the_same_alone(detector, pixels):
    together, alone = (detect(detector, seen(x))[0] for x in (pixels, pixels[1:2]))
    assert alone == pytest.approx(together[1:2], rel=1e-5)


def test_a_saved_detector_gives_the_same_bits(detector, pixels, tmp_path):
    save_detectors(tmp_path / "d.safetensors", [detector])
    found = detect(load_detectors(tmp_path / "d.safetensors")["nut"], seen(pixels))
    for ours, expected in zip(found, detect(detector, seen(pixels)), strict=True):
        assert np.array_equal(ours, expected)


@NEEDS_GPU
def test_a_detector_on_a_gpu_is_that_of_the_cpu(detector, pixels, tmp_path):
    save_detectors(tmp_path / "d.safetensors", [detector])
    loaded = load_detectors(tmp_path / "d.safetensors", "cuda")["nut"]
    found = detect(loaded, seen(pixels))
    for ours, expected in zip(found, detect(detector, seen(pixels)), strict=True):
        assert relative_error(ours, expected) < 1e-5


def test_metadata_comes_back_and_the_file_is_the_same_each_time(detector, tmp_path):
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        save_detectors(path, [detector])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    loaded = load_detectors(paths[0])["nut"]
    assert loaded.described == json.loads(json.dumps(detector.described))
    assert loaded.network.tower.config == detector.network.tower.config
    assert loaded.readout == detector.readout
    (before,), (after,) = detector.seen, loaded.seen
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_several_classes_share_a_tower_in_one_file(make_detector, pixels, tmp_path):
    known = {"threshold": None, "map_range": [0.0, 0.5], "calibrated": {}}
    pair = [
        make_detector(pixels[i : i + 1], task, **known, **{"class": name})
        for i, (name, task) in enumerate([("nut", "cls"), ("bolt", "seg")])
    ]
    save_detectors(tmp_path / "d.safetensors", pair)
    loaded = load_detectors(tmp_path / "d.safetensors")
    assert [*loaded] == ["nut", "bolt"]
    for before, after in zip(pair, loaded.values(), strict=True):
        found, expected = (detect(x, seen(pixels))[0] for x in (after, before))
        assert np.array_equal(found, expected)
    with pytest.raises(UserError, match="--run: several of nut; name one each"):
        save_detectors(tmp_path / "d.safetensors", [pair[0], pair[0]])


def test_detectors_of_several_towers_are_refused(detector, tmp_path):
    tower = detector.network.tower
    weights = tower.weights | {"proj": tower.weights["proj"] + 1}
    network = detector.network._replace(tower=tower._replace(weights=weights))
    described = detector.described | {"backbone": "big"}
    other = detector._replace(network=network, described=described)
    with pytest.raises(UserError, match=r"of several backbones \(tiny, big\)"):
        save_detectors(tmp_path / "d.safetensors", [detector, other])


def test_another_vision_tower_is_refused(detector, tmp_path):
    path = tmp_path / "d.safetensors"
    save_detectors(path, [detector])
    tensors, described = load_tensors(path, "detectors")
    tensors["vision.proj"] = tensors["vision.proj"] + 1e-4
    save_tensors(path, tensors, described)
    with pytest.raises(UserError, match="its vision tower is not the exported one"):
        load_detectors(path)


def test_a_tower_is_no_detector(towers, tmp_path):
    save_tower(tmp_path / "vision.safetensors", towers[0], {})
    with pytest.raises(UserError, match=r"vision\.safetensors: is not a whole detec"):
        load_detectors(tmp_path / "vision.safetensors")


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 100])
def test_another_file_is_no_detector(tmp_path, content):
    (tmp_path / "tiny.json").write_bytes(content)
    with pytest.raises(
        UserError, match=r"tiny\.json: is not a whole detector"
    ) as error:
        load_detectors(tmp_path / "tiny.json")
    assert "delete" not in str(error.value)


def test_a_detector_of_a_method_that_is_not_there_is_refused(detector, tmp_path):
    other = detector._replace(described=detector.described | {"method": "later"})
    save_detectors(tmp_path / "d.safetensors", [other])
    with pytest.raises(
        UserError, match=r"d\.safetensors: a detector of another version"
    ):
        load_detectors(tmp_path / "d.safetensors")


WRONG = {
    "float": lambda x: x.astype(np.float32) / 255,
    "uint16": lambda x: x.astype(np.uint16) * 257,
    "grey": lambda x: x[..., 0],
    "batch": lambda x: x[None],
    "channels first": lambda x: x.transpose(2, 0, 1),
    "list": list,
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_image_of_another_type_or_shape_is_refused(make_detector, pixels, kind):
    detector, image = make_detector(pixels[:1], "cls"), WRONG[kind](pixels[0])
    found = "list of 32" if kind == "list" else f"{image.dtype} {[*image.shape]}, "
    wanted = "image: must be uint8 [H, W, 3] RGB, 0 to 255, in a NumPy array, not "
    wanted += found
    with pytest.raises(UserError, match=re.escape(wanted)):
        view_of(detector, image)


def test_several_images_are_predicted_with_the_decision(make_detector, pixels):
    """More images than a batch, and of two sizes."""
    known = {"threshold": 0.1, "map_range": [0.0, 0.5], "calibrated": {}}
    detector = make_detector(pixels[:1], "seg", **known)
    images = [*pixels, pixels[0, :20]] * 3
    scores, maps, anomalous = detector.predict(images)
    expected = [detect(detector, [view_of(detector, x)])[0][0] for x in images]
    assert scores == pytest.approx(np.array(expected), rel=1e-5)
    assert maps.shape == (12, 16, 16)
    assert anomalous.tolist() == [score > np.float32(0.1) for score in scores]
    assert 0 < anomalous.sum() < 12
    other = detector._replace(described=detector.described | {"threshold": None})
    assert other.predict(pixels)[2] is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lambda x: x[0], "uint8 [32, 32, 3], 0 to 255"),
        (lambda x: [], "list of 0"),
        (lambda x: "photograph.png", "str of 14"),
        (lambda x: None, "NoneType"),
        (lambda x: [x[0], x[1] / 255], "images[1]: must be uint8"),
        (lambda x: [x[0], x[1] / 255], "not float64 [32, 32, 3], 0 to 1;"),
    ],
)
def test_images_of_another_kind_are_refused(make_detector, pixels, given, reason):
    detector = make_detector(pixels[:1], "seg", threshold=0.1)
    with pytest.raises(UserError, match=re.escape(reason)):
        detector.predict(given(pixels))


def test_a_detector_is_loaded_by_its_class(make_detector, pixels, tmp_path):
    known = {"threshold": 0.1, "map_range": [0.0, 0.5], "calibrated": {}}
    pair = [
        make_detector(pixels[:1], "seg", **known, **{"class": name})
        for name in ("nut", "bolt")
    ]
    save_detectors(tmp_path / "d.safetensors", pair)
    loaded = fsad.load(tmp_path / "d.safetensors", class_name="bolt")
    assert loaded.described["class"] == "bolt"
    with pytest.raises(UserError, match="class: there are several; name one of"):
        fsad.load(tmp_path / "d.safetensors")
    with pytest.raises(UserError, match="class: 'pin' is not there; take nut"):
        fsad.load(tmp_path / "d.safetensors", class_name="pin")


def test_a_mirrored_view_is_taken(make_detector, pixels):
    detector = make_detector(pixels[:1], "cls")
    mirrored = pixels[0, :, ::-1]
    found = [view_of(detector, image) for image in (mirrored, mirrored.copy())]
    one, other = detect(detector, found)[0]
    assert one == other


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_maps_at_raw_have_the_size_of_the_images(make_detector, pixels, task):
    known = {"options": OPTIONS | {"resolution": "raw"}}
    raw = make_detector(pixels[:1], task, **known)
    images = [pixels[0, :20], pixels[1]]
    scores, maps = detect(raw, [view_of(raw, image) for image in images])
    assert [one.shape for one in maps] == [(20, 32), (32, 32)]
    if task == "seg":
        assert scores.tolist() == [one.max() for one in maps]


def test_a_region_of_interest_is_kept_in_the_file(make_detector, pixels, tmp_path):
    region = np.zeros((40, 20), bool)
    region[:20] = True
    known = {"threshold": 0.25, "map_range": [0.0, 0.5], "calibrated": {}}
    detector = make_detector(pixels[:1], "seg", **known)._replace(region=region)
    save_detectors(tmp_path / "d.safetensors", [detector])
    loaded = load_detectors(tmp_path / "d.safetensors")["nut"]
    assert np.array_equal(loaded.region, region)
    image = np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8)
    other = np.where(region[..., None], image, np.uint8(9))
    scores, maps = detect(loaded, [view_of(loaded, x) for x in (image, other)])
    assert scores[0] == scores[1]
    assert np.array_equal(maps[0], maps[1])
    assert maps[0][:8].any()
    assert not maps[0][8:].any()
    with pytest.raises(UserError, match=r"the image: is 20x20 pixels, .* 20x40"):
        view_of(loaded, image[:20])
