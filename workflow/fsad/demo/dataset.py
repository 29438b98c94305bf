"""Synthetic data set of industrial parts with defects.

Every image is a rendered photograph with its own pose and light. A defect image is
rendered without and with the defect: its mask holds exactly the pixels that differ.

Planes, coverages and scenes are those of `fsad.demo.drawing`; the origin of a plane is
the centre of the part. Lengths and sigmas are in pixels.
"""

import json
import shutil
from collections.abc import Callable
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
from fsad.demo import drawing
from fsad.demo.drawing import Array, Colour, Field, blend, coverage, rotate, shift
from fsad.errors import UserError

MAT_NOISE = 0.08, 1.2  # contrast and sigma of the surface below an object
THREAD = 11.0
RING, RING_WIDTH, LUG, BOLT = 60.0, 28.0, 18.0, 8.0
COLUMNS, ROWS, PITCH, POCKET, PILL = 4, 3, 52.0, 23.0, 18.0
BLACK, STEEL, FOIL = (0.06, 0.06, 0.07), (0.6, 0.61, 0.63), (0.66, 0.68, 0.7)
RUBBER, SHADE, BEIGE = (0.16, 0.17, 0.18), (0.3, 0.32, 0.35), (0.66, 0.64, 0.6)
SLATE, BLUE, GREY = (0.2, 0.24, 0.28), (0.36, 0.5, 0.68), (0.62, 0.68, 0.74)
CREAM, COFFEE, RUST = (0.9, 0.86, 0.76), (0.3, 0.2, 0.1), (0.42, 0.2, 0.08)
GREASE, ORANGE = (0.75, 0.62, 0.25), (0.86, 0.62, 0.5)

Defect = Callable[[Field, Array, Generator], Array]


def write_demo(root: Path, seed: int = 0) -> None:
    """Write the data set and its prompts into a folder, unless they are up to date.

    Raises UserError if the folder holds anything else.
    """
    made_by = {"seed": seed, "code": code_digest("fsad.demo.dataset")}
    stamp = root / "made_by.json"
    if stamp.exists() and json.loads(stamp.read_text()) == made_by:
        return
    if not stamp.exists() and root.exists():
        raise UserError(f"{root}: exists and is no demo data; name another folder")
    shutil.rmtree(root, ignore_errors=True)
    generate(root, seed)
    write_text(root / "prompts.yaml", yaml.safe_dump(PROMPTS))
    write_json(stamp, made_by)


def generate(
    root: Path, seed: int = 0, *, train: int = 12, good: int = 16, defect: int = 8
) -> None:
    """Write the data set into a folder, in the layout of MVTec AD.

    train, good: number of good training and test images per class. defect: number of
    images per type of defect. Images are uint8 RGB, masks 0 or 255 in one channel. An
    image depends on `seed` and its own path alone, not on these numbers.
    """
    for name in CLASSES:
        counts = {f"train/{GOOD}": train, f"test/{GOOD}": good}
        counts |= {f"test/{kind}": defect for kind in DEFECTS[name]}
        for folder, count in counts.items():
            for index in range(count):
                _write(Path(root, name), folder, f"{index:03}", seed)


def _write(root: Path, folder: str, index: str, seed: int) -> None:
    kind = Path(folder).name
    rng = default_rng([seed, *f"{root.name}/{folder}/{index}".encode()])
    image, mask = render(root.name, kind, rng)
    files = {f"{folder}/{index}.png": image}
    if kind != GOOD:
        files[f"ground_truth/{kind}/{index}_mask.png"] = mask
    for name, pixels in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)


def render(name: str, kind: str, rng: Generator) -> tuple[Array, Array]:
    """Photograph of a part of a class, and the mask of its defect.

    kind: a defect of the class, or `good`. Returns the image uint8 [H, W, 3] RGB and
    the mask uint8 [H, W], 0 or 255. Equal generators give the same part for every kind,
    with equal pixels outside the mask.
    """
    shape, largest_turn, painter = PARTS[name]
    pose_seed, part_seed, exposure_seed, defect_seed = rng.integers(2**63, size=4)
    plane = _pose(shape, largest_turn, default_rng(pose_seed))

    def paint(plane: Array) -> Array:
        return painter(plane, default_rng(part_seed))

    image = _photograph(paint(plane), default_rng(exposure_seed))
    if kind == GOOD:
        return image, np.zeros(shape, np.uint8)
    scene = DEFECTS[name][kind](paint, plane, default_rng(defect_seed))
    return drawing.visible_change(image, _photograph(scene, default_rng(exposure_seed)))


def _pose(shape: tuple[int, int], largest_turn: float, rng: Generator) -> Array:
    """Plane of a part at a random place, scale and angle."""
    x, y = np.indices(shape, np.float32)[::-1]
    centre = np.array([shape[1] - 1, shape[0] - 1]) / 2 + rng.uniform(-4, 4, 2)
    plane = shift((x, y), *centre) / rng.uniform(0.96, 1.04)
    return rotate(plane, rng.uniform(-largest_turn, largest_turn))


def _photograph(scene: Array, rng: Generator) -> Array:
    """Image of a scene under uneven tinted light, by a soft lens and a noisy sensor."""
    height, width, _ = scene.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope, _ = rotate((x, y), rng.uniform(0, 2 * np.pi))
    falloff = 1 + rng.uniform(0.1, 0.25) * slope - 0.05 * (x**2 + y**2)
    light = falloff[..., None] * rng.uniform(0.65, 1.1) * rng.normal(1, 0.03, 3)
    image = cv2.GaussianBlur(scene * light, (0, 0), rng.uniform(0.4, 0.9))
    image += rng.uniform(0.01, 0.02) * rng.standard_normal(image.shape, np.float32)
    return (255 * image).clip(0, 255).round().astype(np.uint8)


def _noise(shape: tuple, rng: Generator, sigma: float, sigma_y: float = 0) -> Array:
    """Blurred noise of unit variance; a `sigma_y` of 0 stands for `sigma`."""
    white = rng.standard_normal(shape, np.float32)
    noise = cv2.GaussianBlur(white, (0, 0), sigmaX=sigma, sigmaY=sigma_y)
    return noise / noise.std()


def _surface(plane: Array, colour: Colour, rng: Generator, *noise: float) -> Array:
    """Scene of one colour with smooth noise, by its contrast and sigma."""
    contrast, sigma = noise
    values = contrast * _noise(plane.shape[1:], rng, sigma)
    return np.float32(colour) * (1 + values)[..., None]


def _shade(scene: Array, shading: Array) -> Array:
    return scene * (1 + shading[..., None])


def _cast_shadow(scene: Array, shape: Array) -> Array:
    """Scene with the soft shadow of a shape to its lower right."""
    shadow = np.pad(cv2.GaussianBlur(shape, (0, 0), 4), ((4, 0), (4, 0)))[:-4, :-4]
    return _shade(scene, -0.5 * shadow)


def _emboss(scene: Array, distance: Array, over: Colour, height: float) -> Array:
    """Scene with a bevelled shape on it, or sunk into it if `height` is negative."""
    bevel = drawing.relief((-distance / 5).clip(0, 1))
    return _shade(blend(scene, coverage(distance), over), height * bevel)


def _blob(plane: Array, radius: float, rng: Generator) -> Array:
    """Coverage of an irregular, slightly elongated disc around the origin."""
    x, y = rotate(plane, rng.uniform(0, np.pi))
    radius = rng.uniform(0.8, 1.2) * radius
    ragged = 0.2 * radius * _noise(x.shape, rng, radius / 3)
    return coverage(np.hypot(x, y * rng.uniform(1, 1.5)) - radius + ragged)


def _stroke(plane: Array, length: float, width: float, rng: Generator) -> Array:
    """Coverage of a bent line through the origin with round ends."""
    x, y = rotate(plane, rng.uniform(0, np.pi))
    length, width = rng.uniform(0.8, 1.2, 2) * (length, width)
    along = x.clip(-length / 2, length / 2)
    bend = rng.uniform(-1, 1) / length
    return coverage(np.hypot(x - along, y - bend * along**2) - width / 2)


def _batch_tint(rng: Generator) -> Array:
    """Variation of a material's colour between production batches, [3]."""
    return rng.uniform(0.7, 1.2) * rng.normal(1, 0.05, 3)


# Parts: functions of a plane and a generator that return a scene.


def _fabric(plane: Array, rng: Generator) -> Array:
    # The weave repeats after two threads; 64 more keep their numbers above 0.
    drift = [0.12 * _noise(side.shape, rng, 25) for side in plane]
    u, v = plane / THREAD + drift + rng.uniform(64, 66, (2, 1, 1))
    warp_on_top = (u // 1 + v // 1) % 2 == 0
    warp, weft = _threads(u, v, BLUE, rng), _threads(v, u, GREY, rng)
    return np.where(warp_on_top[..., None], warp, weft) * _batch_tint(rng)


def _threads(across: Array, along: Array, colour: Colour, rng: Generator) -> Array:
    tone = rng.normal(1, 0.12, 128)[across.astype(int)]  # one for each thread
    arch = np.abs(np.sin(np.pi * across)) ** 0.6 * np.abs(np.sin(np.pi * along)) ** 0.3
    fibre = 0.06 * _noise(across.shape, rng, 0.8)
    return (tone * (0.15 + 0.85 * arch) + fibre)[..., None] * np.float32(colour)


def _metal(plane: Array, rng: Generator) -> Array:
    streaks = _noise((400, 400), rng, 60, 0.7) + 0.5 * _noise((400, 400), rng, 15, 1)
    streaks = cv2.remap(streaks, *(plane + 200), cv2.INTER_LINEAR)
    steel = _surface(plane, STEEL * _batch_tint(rng), rng, 0.03, 12)
    return _shade(steel, 0.18 * streaks)


def _gasket(plane: Array, rng: Generator) -> Array:
    mat = _surface(plane, BEIGE, rng, *MAT_NOISE)
    rubber = _surface(plane, RUBBER, rng, 0.05, 1)
    distance = _gasket_distance(plane)
    return _emboss(_cast_shadow(mat, coverage(distance)), distance, rubber, 1.5)


def _gasket_distance(plane: Array) -> Array:
    """Signed distance to a ring with three lugs, each with a bolt hole."""
    distance = np.abs(np.hypot(*plane) - RING) - RING_WIDTH / 2
    for angle in np.arange(3) * 2 * np.pi / 3:
        from_bolt = np.hypot(*shift(rotate(plane, angle), RING + 8, 0))
        distance = np.maximum(np.minimum(distance, from_bolt - LUG), BOLT - from_bolt)
    return distance


def _blister(plane: Array, rng: Generator) -> Array:
    x, y = np.abs(plane)
    card = coverage(np.maximum(x - COLUMNS * PITCH / 2, y - ROWS * PITCH / 2))
    foil = _surface(plane, FOIL, rng, 0.03, 1)
    mat = _surface(plane, SLATE, rng, *MAT_NOISE)
    scene = blend(_cast_shadow(mat, card), card, foil)
    cell, number = _cells(plane)
    scene = _emboss(scene, np.hypot(*cell) - POCKET, SHADE, -0.8)
    pill = shift(cell, *rng.uniform(-1.5, 1.5, (2, COLUMNS * ROWS))[:, number])
    return _emboss(scene, np.hypot(*pill) - PILL, ORANGE * rng.normal(1, 0.03, 3), 0.8)


def _cells(plane: Array) -> tuple[Array, Array]:
    """Plane around the centre of the nearest pocket, and its number [H, W]."""
    right, bottom = (COLUMNS - 1) / 2, (ROWS - 1) / 2
    column = (plane[0] / PITCH + right).round().clip(0, 2 * right)
    row = (plane[1] / PITCH + bottom).round().clip(0, 2 * bottom)
    cell = shift(plane, (column - right) * PITCH, (row - bottom) * PITCH)
    return cell, (row * COLUMNS + column).astype(int)


# Defects: functions of the painter of a part, its plane and a generator that return the
# scene of the defective part.


def _anywhere(plane: Array, rng: Generator) -> Array:
    """Plane around a random pixel in the middle half of the image."""
    row, column = (int(rng.uniform(0.25, 0.75) * n) for n in plane.shape[1:])
    return shift(plane, *plane[:, row, column])


def _on_ring(plane: Array, rng: Generator) -> Array:
    """Plane around a random point of the gasket's ring."""
    angle = rng.uniform(0, 2 * np.pi)
    return shift(plane, RING * np.cos(angle), RING * np.sin(angle))


def _spot(radius: float, colour: Colour, soaked=False, place=_anywhere) -> Defect:
    """Blob of a colour; with `soaked` the pattern below shows through."""

    def draw(paint: Field, plane: Array, rng: Generator) -> Array:
        scene, blob = paint(plane), _blob(place(plane, rng), radius, rng)
        matter = _surface(plane, colour, rng, 0.1, 2)
        if soaked:
            matter *= scene.mean(-1, keepdims=True) / scene.mean()
        return blend(scene, rng.uniform(0.85, 1) * blob, matter)

    return draw


def _line(length: float, width: float, colour: Colour, height: float) -> Defect:
    """Line on top of the part, or a groove in it if `height` is negative."""

    def draw(paint: Field, plane: Array, rng: Generator) -> Array:
        scene, line = paint(plane), _stroke(_anywhere(plane, rng), length, width, rng)
        if height > 0:
            scene = _cast_shadow(scene, line)
        return _shade(blend(scene, line, colour), height * drawing.relief(line))

    return draw


def _dent(paint: Field, plane: Array, rng: Generator) -> Array:
    dent = cv2.GaussianBlur(_blob(_anywhere(plane, rng), 16, rng), (0, 0), 3)
    return _shade(paint(plane), -rng.uniform(4, 5) * drawing.relief(dent))


def _cut(paint: Field, plane: Array, rng: Generator) -> Array:
    """Gap across the gasket's ring."""
    x, y = rotate(plane, rng.uniform(0, 2 * np.pi))
    edge = rng.uniform(6, 9) + rng.uniform(-0.2, 0.2) * (x - RING)
    gap = coverage(np.abs(y) - edge) * coverage(_gasket_distance(plane) - 1)
    return blend(paint(plane), gap * (x > 0), _surface(plane, BEIGE, rng, *MAT_NOISE))


def _bend(paint: Field, plane: Array, rng: Generator) -> Array:
    """Part of the gasket's ring displaced inwards or outwards."""
    reach = np.exp(-(_on_ring(plane, rng) ** 2).sum(0) / (2 * 14**2))
    pull = rng.choice([-1, 1]) * rng.uniform(24, 30) * reach
    return paint(plane * (1 + pull / np.hypot(*plane).clip(1)))


def _lost_pill(edge: float) -> Defect:
    """One pill lost up to a ragged line at the distance `edge` from its centre."""

    def draw(paint: Field, plane: Array, rng: Generator) -> Array:
        cell, number = _cells(plane)
        x, _ = rotate(cell, rng.uniform(0, 2 * np.pi))
        line = x - edge - rng.uniform(-3, 3)
        lost = coverage(line + 1.5 * _noise(line.shape, rng, 2))
        lost *= number == rng.integers(COLUMNS * ROWS)
        return blend(paint(plane), lost * coverage(np.hypot(*cell) - PILL - 2), SHADE)

    return draw


PARTS = {  # height and width of the images, largest turn in radians, painter
    "woven_fabric": ((192, 192), 0.15, _fabric),
    "brushed_metal": ((192, 192), 0.15, _metal),
    "rubber_gasket": ((192, 192), 0.15, _gasket),
    "blister_pack": ((184, 240), 0.1, _blister),
}
DEFECTS = {
    "woven_fabric": {
        "hole": _spot(16, BLACK),
        "stain": _spot(20, COFFEE, soaked=True),
        "loose_thread": _line(100, 5, CREAM, height=0.5),
    },
    "brushed_metal": {
        "scratch": _line(95, 4, SLATE, height=-1),
        "dent": _dent,
        "rust_spot": _spot(18, RUST),
    },
    "rubber_gasket": {
        "cut": _cut,
        "bend": _bend,
        "grease_spot": _spot(13, GREASE, place=_on_ring),
    },
    "blister_pack": {
        "missing_pill": _lost_pill(40),
        "broken_pill": _lost_pill(6),
        "tear": _line(65, 7, BLACK, height=-1),
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
