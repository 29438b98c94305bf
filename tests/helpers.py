"""Constants and functions that several tests share."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
TINY = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 32,
        "layers": 4,
        "width": 32,
        "head_width": 16,
        "patch_size": 8,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
}

OPTIONS = {
    "position": "any",
    "whole": False,
    "epochs": 4,
    "eval_every": 2,
    "lr": 0.002,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "min_lr": 0.00001,
    "match_weight": 0.001,
    "temperature": "stored",
    "n_ctx": 2,
    "n_ctx_ab": 1,
    "n_pro": 2,
    "n_pro_ab": 3,
    "resolution": 16,
    "seed": 1,
    "device": "cpu",
    "precision": "float32",
}


# A string is evaluated only where a test is marked: torch takes a second to import.
NEEDS_GPU = pytest.mark.skipif(
    "not __import__('torch').cuda.is_available()", reason="no GPU here"
)


def perturbed(model):
    """`model` with biases and scales that are not 0 and 1, as after a training."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def relative_error(value, expected) -> float:
    """Norm of the difference over the norm of the expected value."""
    value, expected = (np.asarray(x, np.float64) for x in (value, expected))
    assert value.shape == expected.shape
    return np.linalg.norm(value - expected) / np.linalg.norm(expected)


def write_class(
    root: Path, name: str, train=4, good=3, defects=("scratch", "hole"), each=2, size=40
) -> Path:
    """Write a class in the mvtec layout: grey noise, defects as bright squares."""
    generator = np.random.default_rng(len(name))
    folder = root / name
    for index in range(train):
        _write(folder / "train/good" / f"{index:03}.png", generator, size)
    for index in range(good):
        _write(folder / "test/good" / f"{index:03}.png", generator, size)
    for kind in defects:
        for index in range(each):
            mask = np.zeros((size, size), np.uint8)
            mask[index + 5 : index + 15, 8:20] = 255
            _write(folder / "test" / kind / f"{index:03}.png", generator, size, mask)
            path = folder / "ground_truth" / kind / f"{index:03}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    return folder


def _write(path: Path, generator, size: int, mask=None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = generator.integers(90, 130, (size, size, 3), dtype=np.uint8)
    if mask is not None:
        image[mask > 0] = 240
    Image.fromarray(image).save(path)


def folder_from_environment(variable: str, content: str) -> Path:
    """The folder that an environment variable names; skips the test without it."""
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name the folder of {content}")
    return Path(os.environ[variable]).resolve()
