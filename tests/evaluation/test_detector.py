import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fsad.backbones.clip_vision import embed_images
from fsad.backbones.readout import VARIANTS
from fsad.backbones.transformer import (
    load_tensors,
    save_tensors,
    save_tower,
    weights_digest,
)
from fsad.errors import UserError
from fsad.evaluation.detector import (
    Detector,
    detect,
    load_detector,
    save_detector,
    score,
    see,
)
from fsad.methods.maps import full_maps
from helpers import NEEDS_GPU, relative_error

SCRIPT = """
import sys
import numpy as np
from fsad.evaluation.detector import detect, load_detector
scores, maps = detect(load_detector(sys.argv[1]), np.load(sys.argv[2]))
np.savez(sys.argv[3], scores=scores, maps=maps)
"""


@pytest.fixture(params=["cls", "seg"])
def detector(request, towers, pixels) -> Detector:
    """A detector of the tiny CLIP whose memory is the first image, mirrored."""
    vision = towers[0]
    memory = embed_images(vision, pixels[:1, :, ::-1].copy(), VARIANTS["original"])
    prompts = torch.randn(2, 24, generator=torch.Generator().manual_seed(0))
    return Detector(
        vision,
        F.normalize(prompts, dim=-1),
        {name: torch.from_numpy(memory[name]) for name in ("mid1", "mid2")},
        {
            "task": request.param,
            "variant": VARIANTS["original"]._asdict(),
            "temperature": 4.6,
            "resolution": 16,
            "threshold": 0.25,
            "map_range": [0.0, 0.5],
        },
    )


def plain(detector, pixels):
    """Scores and maps by the formulas alone, patch by patch."""
    found = embed_images(detector.tower, pixels, VARIANTS["original"])
    distances = [
        (1 - found[name] @ detector.memory[name].flatten(0, 1).numpy().T).min(-1) / 2
        for name in ("mid1", "mid2")
    ]
    visual = np.mean(distances, 0).reshape(len(pixels), 4, 4)
    task = detector.options["task"]
    seen = found["global" if task == "cls" else "patch"]
    logits = 4.6 * seen @ detector.prompts.numpy().T
    textual = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    textual = textual[..., 1]
    if task == "seg":
        fused = 1 / (1 / textual.reshape(visual.shape) + 1 / visual)
        maps = full_maps(fused, 16)
        return maps.max((1, 2)), maps
    grown = F.interpolate(torch.from_numpy(visual)[:, None], size=16, mode="bilinear")
    peaks = grown.amax((1, 2, 3)).numpy()
    return 1 / (1 / textual + 1 / peaks), full_maps(visual, 16)


def test_scores_and_maps_are_those_of_the_formulas(detector, pixels):
    found = detect(detector, pixels)
    for ours, expected in zip(found, plain(detector, pixels), strict=True):
        assert ours.dtype == np.float32
        assert relative_error(ours, expected) < 1e-5


def test_an_image_scores_the_same_alone(detector, pixels):
    together, alone = detect(detector, pixels)[0], detect(detector, pixels[1:2])[0]
    assert alone == pytest.approx(together[1:2], rel=1e-5)


def test_only_a_cls_detector_has_scores_beside_maps(detector, pixels):
    values, grids = score(detector, see(detector, pixels))
    assert (values is None) == (detector.options["task"] == "seg")
    assert grids.shape == (3, 4, 4)


def test_a_saved_detector_gives_the_same_bits_in_a_fresh_process(
    detector, pixels, tmp_path
):
    save_detector(tmp_path / "d.safetensors", detector)
    np.save(tmp_path / "pixels.npy", pixels)
    script = [sys.executable, "-c", SCRIPT, "d.safetensors", "pixels.npy", "out.npz"]
    subprocess.run(script, cwd=tmp_path, check=True)
    found = np.load(tmp_path / "out.npz")
    for name, expected in zip(
        ("scores", "maps"), detect(detector, pixels), strict=True
    ):
        assert np.array_equal(found[name], expected)


@NEEDS_GPU
def test_a_detector_on_a_gpu_is_that_of_the_cpu(detector, pixels, tmp_path):
    save_detector(tmp_path / "it.safetensors", detector)
    found = detect(load_detector(tmp_path / "it.safetensors", "cuda"), pixels)
    for ours, expected in zip(found, detect(detector, pixels), strict=True):
        assert relative_error(ours, expected) < 1e-5


def test_options_come_back_and_the_file_is_the_same_each_time(detector, tmp_path):
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        save_detector(path, detector)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    loaded = load_detector(paths[0])
    digest = weights_digest(detector.tower.weights)
    expected = detector.options | {"vision_sha256": digest}
    assert loaded.options == json.loads(json.dumps(expected))
    assert loaded.tower.config == detector.tower.config


def test_another_vision_tower_is_refused(detector, tmp_path):
    path = tmp_path / "d.safetensors"
    save_detector(path, detector)
    tensors, described = load_tensors(path, "detector")
    tensors["vision.proj"] = tensors["vision.proj"] + 1e-4
    save_tensors(path, tensors, described)
    with pytest.raises(UserError, match="its vision tower is not what was exported"):
        load_detector(path)


def test_a_tower_is_no_detector(towers, tmp_path):
    save_tower(tmp_path / "vision.safetensors", towers[0], {})
    with pytest.raises(UserError, match=r"vision\.safetensors: damaged"):
        load_detector(tmp_path / "vision.safetensors")
