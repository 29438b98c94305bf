"""A tiny CLIP and its inputs, made on the spot; and no network.

torch and open_clip are imported by the fixtures that need them: most tests do not.
"""

import gc
import os
import shutil
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import offline.sitecustomize
from fsad.data.words import tokenize
from helpers import OPTIONS, TINY, perturbed

BROWSERS = "chromium", "chromium-browser", "google-chrome"
hypothesis.settings.register_profile(
    "tests", deadline=None, max_examples=60, database=None, derandomize=True
)
hypothesis.settings.load_profile("tests")

OFFLINE = Path(offline.sitecustomize.__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")])
)


def pytest_collection_modifyitems(items):
    """Pipelines first, which take longest: processes of tests then end together."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


def pytest_collection_finish():
    """Modules live as long as the tests: no search for cycles passes them again."""
    gc.freeze()


@pytest.fixture(scope="session")
def clip():
    """A tiny open_clip model with fixed random weights."""
    import open_clip
    import torch

    torch.manual_seed(0)
    return perturbed(open_clip.CLIP(**TINY)).eval()


@pytest.fixture(scope="session")
def towers(clip):
    """Vision and text tower of `clip`."""
    from fsad.backbones.clip import split_towers

    return split_towers(clip, "tiny")


@pytest.fixture(scope="session")
def tokens():
    """Tokens of a class with two abnormal states."""
    return tokenize("metal nut", ["damaged {}", "{} with flaw"])


@pytest.fixture(scope="session")
def pixels():
    """Three small random images, uint8 [3, 32, 32, 3]."""
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture
def unreadable(tmp_path):
    """Writes a file that may not be read, by the superuser neither."""
    user = os.geteuid()

    def write(path):
        path.write_bytes(b"x" * 100)
        path.chmod(0)
        if user == 0:
            os.seteuid(65534)
        return path

    yield write
    os.seteuid(user)


@pytest.fixture
def options():
    """The options of a short training on a tiny CLIP."""
    return dict(OPTIONS)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium of this machine."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed, none of {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"]
        )
        yield browser
        browser.close()
