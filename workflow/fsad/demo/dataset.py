"""A small synthetic data set of industrial parts with defects, generated and ours.

Every image is a photograph of a part in a pose and a light of its own. A defect image
photographs the part before and after: its mask holds exactly the pixels that changed.

Scenes are float [H, W, 3] RGB reflectances, 0 to 1; planes are float [2, H, W], every
pixel's x and y from the centre of the part; covers are float [H, W], 1 inside a shape,
0 outside, in between on its edge. Lengths and sigmas are in pixels.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.random import Generator, default_rng
from PIL import Image

from fsad.artifacts.code import code_digest
from fsad.artifacts.files import write_json, write_text
from fsad.data.layouts import GOOD
from fsad.data.words import class_words
from fsad.demo.drawing import (
    Array,
    Colour,
    blend,
    changed,
    cover,
    moved,
    relief,
    turned,
)
from fsad.errors import UserError

SPECKLES = 0.08, 1.2  # contrast and size of those of the mat below an object
THREAD = 11.0
RING, RING_WIDTH, LUG, BOLT = 60.0, 28.0, 18.0, 8.0
COLUMNS, ROWS, PITCH, POCKET, PILL = 4, 3, 52.0, 23.0, 18.0
BLACK, STEEL, FOIL = (0.06, 0.06, 0.07), (0.6, 0.61, 0.63), (0.66, 0.68, 0.7)
RUBBER, SHADE, BEIGE = (0.16, 0.17, 0.18), (0.3, 0.32, 0.35), (0.66, 0.64, 0.6)
SLATE, BLUE, GREY = (0.2, 0.24, 0.28), (0.36, 0.5, 0.68), (0.62, 0.68, 0.74)
CREAM, COFFEE, RUST = (0.9, 0.86, 0.76), (0.3, 0.2, 0.1), (0.42, 0.2, 0.08)
GREASE, ORANGE = (0.75, 0.62, 0.25), (0.86, 0.62, 0.5)


def write_demo(root: Path, seed: int = 0) -> None:
    """Write data set and prompts below `root`, unless just these are there.

    Raises UserError if something else is there.
    """
    made_by = {"seed": seed, "code": code_digest("fsad.demo.dataset")}
    stamp = root / "made_by.json"
    if stamp.exists() and json.loads(stamp.read_text()) == made_by:
        return
    if not stamp.exists() and root.exists():
        raise UserError(f"{root}: exists and is no demo data; name another")
    shutil.rmtree(root, ignore_errors=True)
    generate(root, seed)
    write_text(root / "prompts.yaml", yaml.safe_dump(PROMPTS))
    write_json(stamp, made_by)


def generate(
    root: Path, seed: int = 0, train: int = 12, good: int = 16, defect: int = 8
) -> None:
    """Write the data set below `root` in the layout of MVTec AD.

    A class has `train` and `good` good images to train and to test on, and `defect`
    images of each type of defect: uint8 RGB, masks 0 or 255 in one channel. An image
    depends on `seed` and its own path alone, whatever the counts.
    """
    for name in CLASSES:
        counts = {f"train/{GOOD}": train, f"test/{GOOD}": good}
        counts |= {f"test/{kind}": defect for kind in DEFECTS[name]}
        for folder, count in counts.items():
            for index in range(count):
                _write(Path(root, name), folder, f"{index:03}", seed)


def render(name: str, kind: str, rng: Generator) -> tuple[Array, Array]:
    """Photograph a part of class `name`; `kind` is one of its defects or `good`.

    Returns the image uint8 [H, W, 3] RGB and its mask uint8 [H, W], 0 or 255. From
    equal generators comes the same part in every kind, the same outside the mask.
    """
    shape, turn, painter = PARTS[name]
    posing, painting, exposing, marring = rng.integers(2**63, size=4)
    plane = _pose(shape, turn, default_rng(posing))

    def paint(plane: Array) -> Array:
        return painter(plane, default_rng(painting))

    image = _photograph(paint(plane), default_rng(exposing))
    if kind == GOOD:
        return image, np.zeros(shape, np.uint8)
    marred = DEFECTS[name][kind](paint, plane, default_rng(marring))
    return changed(image, _photograph(marred, default_rng(exposing)))


def _write(root: Path, folder: str, index: str, seed: int) -> None:
    kind = Path(folder).name
    rng = default_rng([seed, *f"{root.name}/{folder}/{index}".encode()])
    image, mask = render(root.name, kind, rng)
    _save(root / folder / f"{index}.png", image)
    if kind != GOOD:
        _save(root / "ground_truth" / kind / f"{index}_mask.png", mask)


def _save(path: Path, pixels: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _pose(shape: tuple[int, int], turn: float, rng: Generator) -> Array:
    x, y = np.indices(shape, np.float32)[::-1]
    middle = np.array([shape[1] - 1, shape[0] - 1]) / 2 + rng.uniform(-4, 4, 2)
    plane = moved((x, y), *middle) / rng.uniform(0.96, 1.04)
    return turned(plane, rng.uniform(-turn, turn))


def _photograph(scene: Array, rng: Generator) -> Array:
    """Expose a scene to uneven tinted light, a soft lens and a noisy sensor."""
    image = cv2.GaussianBlur(scene * _light(scene, rng), (0, 0), rng.uniform(0.4, 0.9))
    image += rng.uniform(0.01, 0.02) * rng.standard_normal(image.shape, np.float32)
    return (255 * image).clip(0, 255).round().astype(np.uint8)


def _light(scene: Array, rng: Generator) -> Array:
    height, width, _ = scene.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope, _ = turned((x, y), rng.uniform(0, 2 * np.pi))
    falloff = 1 + rng.uniform(0.1, 0.25) * slope - 0.05 * (x**2 + y**2)
    return falloff[..., None] * rng.uniform(0.65, 1.1) * rng.normal(1, 0.03, 3)


def _smooth(shape: tuple[int, int], rng: Generator, x: float, y: float = 0) -> Array:
    """Noise of unit variance, blurred by sigmas `x` and `y` (0 is the same as `x`)."""
    white = rng.standard_normal(shape, np.float32)
    noise = cv2.GaussianBlur(white, (0, 0), sigmaX=x, sigmaY=y)
    return noise / noise.std()


def _surface(
    plane: Array, colour: Colour, rng: Generator, contrast: float, sigma: float
) -> Array:
    """A scene of one colour, mottled."""
    mottles = contrast * _smooth(plane.shape[1:], rng, sigma)
    return np.float32(colour) * (1 + mottles)[..., None]


def _shade(scene: Array, shading: Array) -> Array:
    return scene * (1 + shading[..., None])


def _shadowed(scene: Array, shape: Array) -> Array:
    shadow = np.pad(cv2.GaussianBlur(shape, (0, 0), 4), ((4, 0), (4, 0)))[:-4, :-4]
    return _shade(scene, -0.5 * shadow)


def _bump(scene: Array, distance: Array, over: Colour, height: float) -> Array:
    """Lay a shape with a bevelled edge over a scene; `height` below 0 is a hollow."""
    bevel = relief((-distance / 5).clip(0, 1))
    return _shade(blend(scene, cover(distance), over), height * bevel)


def _blob(plane: Array, radius: float, rng: Generator) -> Array:
    """Cover of an uneven disc around 0, somewhat longer than wide."""
    x, y = turned(plane, rng.uniform(0, np.pi))
    radius = rng.uniform(0.8, 1.2) * radius
    ragged = 0.2 * radius * _smooth(x.shape, rng, radius / 3)
    return cover(np.hypot(x, y * rng.uniform(1, 1.5)) - radius + ragged)


def _stroke(plane: Array, length: float, width: float, rng: Generator) -> Array:
    """Cover of a bent line through 0 with round ends."""
    x, y = turned(plane, rng.uniform(0, np.pi))
    length, width = rng.uniform(0.8, 1.2, 2) * (length, width)
    along = x.clip(-length / 2, length / 2)
    bend = rng.uniform(-1, 1) / length
    return cover(np.hypot(x - along, y - bend * along**2) - width / 2)


def _batch(rng: Generator) -> Array:
    """What its batch does to the colour of a material, [3]."""
    return rng.uniform(0.7, 1.2) * rng.normal(1, 0.05, 3)


def _fabric(plane: Array, rng: Generator) -> Array:
    # The weave repeats after two threads; 64 more keep their numbers above 0.
    drift = [0.12 * _smooth(side.shape, rng, 25) for side in plane]
    u, v = plane / THREAD + drift + rng.uniform(64, 66, (2, 1, 1))
    warp_on_top = (u // 1 + v // 1) % 2 == 0
    warp, weft = _threads(u, v, BLUE, rng), _threads(v, u, GREY, rng)
    return np.where(warp_on_top[..., None], warp, weft) * _batch(rng)


def _threads(across: Array, along: Array, colour: Colour, rng: Generator) -> Array:
    tone = rng.normal(1, 0.12, 128)[across.astype(int)]  # one for each thread
    arch = np.abs(np.sin(np.pi * across)) ** 0.6 * np.abs(np.sin(np.pi * along)) ** 0.3
    fibre = 0.06 * _smooth(across.shape, rng, 0.8)
    return (tone * (0.15 + 0.85 * arch) + fibre)[..., None] * np.float32(colour)


def _metal(plane: Array, rng: Generator) -> Array:
    streaks = _smooth((400, 400), rng, 60, 0.7) + 0.5 * _smooth((400, 400), rng, 15, 1)
    streaks = cv2.remap(streaks, *(plane + 200), cv2.INTER_LINEAR)
    steel = _surface(plane, STEEL * _batch(rng), rng, 0.03, 12)
    return _shade(steel, 0.18 * streaks)


def _gasket(plane: Array, rng: Generator) -> Array:
    mat = _surface(plane, BEIGE, rng, *SPECKLES)
    rubber = _surface(plane, RUBBER, rng, 0.05, 1)
    distance = _gasket_distance(plane)
    return _bump(_shadowed(mat, cover(distance)), distance, rubber, 1.5)


def _gasket_distance(plane: Array) -> Array:
    """Signed distance to a ring with three lugs, each with a hole for a bolt."""
    distance = np.abs(np.hypot(*plane) - RING) - RING_WIDTH / 2
    for angle in np.arange(3) * 2 * np.pi / 3:
        from_bolt = np.hypot(*moved(turned(plane, angle), RING + 8, 0))
        distance = np.maximum(np.minimum(distance, from_bolt - LUG), BOLT - from_bolt)
    return distance


def _blister(plane: Array, rng: Generator) -> Array:
    x, y = np.abs(plane)
    card = cover(np.maximum(x - COLUMNS * PITCH / 2, y - ROWS * PITCH / 2))
    foil = _surface(plane, FOIL, rng, 0.03, 1)
    mat = _surface(plane, SLATE, rng, *SPECKLES)
    scene = blend(_shadowed(mat, card), card, foil)
    cell, number = _cells(plane)
    scene = _bump(scene, np.hypot(*cell) - POCKET, SHADE, -0.8)
    pill = moved(cell, *rng.uniform(-1.5, 1.5, (2, COLUMNS * ROWS))[:, number])
    return _bump(scene, np.hypot(*pill) - PILL, ORANGE * rng.normal(1, 0.03, 3), 0.8)


def _cells(plane: Array) -> tuple[Array, Array]:
    """Coordinates around the nearest pocket's centre, and its number [H, W]."""
    right, bottom = (COLUMNS - 1) / 2, (ROWS - 1) / 2
    column = (plane[0] / PITCH + right).round().clip(0, 2 * right)
    row = (plane[1] / PITCH + bottom).round().clip(0, 2 * bottom)
    cell = moved(plane, (column - right) * PITCH, (row - bottom) * PITCH)
    return cell, (row * COLUMNS + column).astype(int)


# Defects. Each is given a function that paints the part on a plane, the plane, and a
# generator, and returns the marred scene.


def _anywhere(plane: Array, rng: Generator) -> Array:
    """Coordinates around a random pixel clear of the image's border."""
    row, column = (int(rng.uniform(0.25, 0.75) * n) for n in plane.shape[1:])
    return moved(plane, *plane[:, row, column])


def _on_ring(plane: Array, rng: Generator) -> Array:
    angle = rng.uniform(0, 2 * np.pi)
    return moved(plane, RING * np.cos(angle), RING * np.sin(angle))


def _spot(paint, plane, rng, radius, colour, soaked=False, place=_anywhere):
    """A blob of a colour, `soaked` if the pattern below shows through."""
    scene, blob = paint(plane), _blob(place(plane, rng), radius, rng)
    matter = _surface(plane, colour, rng, 0.1, 2)
    if soaked:
        matter *= scene.mean(-1, keepdims=True) / scene.mean()
    return blend(scene, rng.uniform(0.85, 1) * blob, matter)


def _line(paint, plane, rng, length, width, colour, height):
    """A line that lies on the part, or a groove if `height` is below 0."""
    scene, line = paint(plane), _stroke(_anywhere(plane, rng), length, width, rng)
    if height > 0:
        scene = _shadowed(scene, line)
    return _shade(blend(scene, line, colour), height * relief(line))


def _dent(paint, plane, rng):
    dent = cv2.GaussianBlur(_blob(_anywhere(plane, rng), 16, rng), (0, 0), 3)
    return _shade(paint(plane), -rng.uniform(4, 5) * relief(dent))


def _cut(paint, plane, rng):
    x, y = turned(plane, rng.uniform(0, 2 * np.pi))
    edge = rng.uniform(6, 9) + rng.uniform(-0.2, 0.2) * (x - RING)
    gap = cover(np.abs(y) - edge) * cover(_gasket_distance(plane) - 1)
    return blend(paint(plane), gap * (x > 0), _surface(plane, BEIGE, rng, *SPECKLES))


def _bend(paint, plane, rng):
    reach = np.exp(-(_on_ring(plane, rng) ** 2).sum(0) / (2 * 14**2))
    pull = rng.choice([-1, 1]) * rng.uniform(24, 30) * reach
    return paint(plane * (1 + pull / np.hypot(*plane).clip(1)))


def _lost_pill(paint, plane, rng, edge):
    """One pill lacks what lies before a ragged line, `edge` from its centre."""
    cell, number = _cells(plane)
    beyond = turned(cell, rng.uniform(0, 2 * np.pi))[0] - edge - rng.uniform(-3, 3)
    lost = cover(beyond + 1.5 * _smooth(beyond.shape, rng, 2))
    lost *= number == rng.integers(COLUMNS * ROWS)
    return blend(paint(plane), lost * cover(np.hypot(*cell) - PILL - 2), SHADE)


PARTS = {  # height and width of the images, largest turn in radians, painter
    "woven_fabric": ((192, 192), 0.15, _fabric),
    "brushed_metal": ((192, 192), 0.15, _metal),
    "rubber_gasket": ((192, 192), 0.15, _gasket),
    "blister_pack": ((184, 240), 0.1, _blister),
}
DEFECTS = {
    "woven_fabric": {
        "hole": partial(_spot, radius=16, colour=BLACK),
        "stain": partial(_spot, radius=20, colour=COFFEE, soaked=True),
        "loose_thread": partial(_line, length=100, width=5, colour=CREAM, height=0.5),
    },
    "brushed_metal": {
        "scratch": partial(_line, length=95, width=4, colour=SLATE, height=-1),
        "dent": _dent,
        "rust_spot": partial(_spot, radius=18, colour=RUST),
    },
    "rubber_gasket": {
        "cut": _cut,
        "bend": _bend,
        "grease_spot": partial(_spot, radius=13, colour=GREASE, place=_on_ring),
    },
    "blister_pack": {
        "missing_pill": partial(_lost_pill, edge=40),
        "broken_pill": partial(_lost_pill, edge=6),
        "tear": partial(_line, length=65, width=7, colour=BLACK, height=-1),
    },
}
CLASSES = tuple(PARTS)
PROMPTS = {
    name: {
        "text": class_words(name),
        "states": [f"{{}} with a {class_words(kind)}" for kind in kinds],
    }
    for name, kinds in DEFECTS.items()
}
