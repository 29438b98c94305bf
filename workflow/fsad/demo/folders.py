"""Folders of generated data: images and masks in the layout of MVTec AD, prompts."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import yaml
from numpy.random import Generator, default_rng
from PIL import Image

from fsad.artifacts.files import write_json, write_text
from fsad.data.layouts import GOOD
from fsad.data.words import class_words
from fsad.demo.drawing import Array
from fsad.errors import UserError

Render = Callable[[str, str, Generator], tuple[Array, Array]]


def write_once(
    root: Path, made_by: Mapping, prompts: Mapping, generate: Callable[[], None]
) -> None:
    """Generate a data set and write its prompts into a folder, unless it is up to date.

    made_by: seed, code and number of images where it can be chosen, stored beside the
    data; a change of them makes it anew.
    Raises UserError if the folder holds anything but such data.
    """
    stamp = root / "made_by.json"
    if stamp.exists() and json.loads(stamp.read_text()) == made_by:
        return
    if not stamp.exists() and root.exists():
        raise UserError(f"{root}: exists and is no demo data; name another folder")
    shutil.rmtree(root, ignore_errors=True)
    generate()
    write_text(root / "prompts.yaml", yaml.safe_dump(dict(prompts)))
    write_json(stamp, made_by)


def prompts_of(name: str, kinds: Iterable[str]) -> dict:
    """Words of a class, and an abnormal state for each kind of defect."""
    states = [f"{{}} with a {class_words(kind)}" for kind in kinds]
    return {"text": class_words(name), "states": states}


def write_class(
    folder: Path, counts: Mapping[str, int], seed: int, render: Render
) -> None:
    """Write the images of a class and their masks.

    counts: number of images of each folder in the class, `train/good` for example.
    render: gives image and mask of a class and a kind of defect, or `good`; its
    generator depends on the seed and the path of the image alone.
    """
    for below, count in counts.items():
        for index in range(count):
            _write_image(folder, f"{below}/{index:03}", seed, render)


def _write_image(folder: Path, path: str, seed: int, render: Render) -> None:
    _, kind, index = path.split("/")
    image, mask = render(
        folder.name, kind, default_rng([seed, *f"{folder.name}/{path}".encode()])
    )
    files = {f"{path}.png": image}
    if kind != GOOD:
        files[f"ground_truth/{kind}/{index}_mask.png"] = mask
    for name, pixels in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
