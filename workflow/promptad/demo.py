"""A small synthetic data set of industrial parts with defects, generated and ours.

Every image is a photograph of a part in a pose and a light of its own. A defect image
photographs the part before and after: the mask holds exactly the pixels that changed.

Scenes are float32 [H, W, 3] RGB reflectances, 0 to 1; covers are float32 [H, W], 1
inside a shape, 0 outside, in between on its edge. Lengths are in pixels.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

GOOD = "good"
VISIBLE = 8  # of 255: smaller changes are undone, so that masks end where eyes see it
THREAD = 11.0
RING, RING_WIDTH, LUG, BOLT = 60.0, 28.0, 18.0, 8.0
COLUMNS, ROWS, PITCH, POCKET, PILL = 4, 3, 52.0, 23.0, 18.0
POCKET_COLOUR = (0.3, 0.32, 0.35)


class Plane(NamedTuple):
    """The part's own coordinates of every pixel, float32 [H, W], its centre at 0."""

    x: np.ndarray
    y: np.ndarray


class Exposure(NamedTuple):
    """What the camera adds: light and noise [H, W, 3], and the sigma of its blur."""

    light: np.ndarray
    noise: np.ndarray
    blur: float


class Part(NamedTuple):
    """A class: height and width of its images, largest turn in radians, and painter.

    A defect has a phrase and a function that marrs a scene.
    """

    text: str
    shape: tuple[int, int]
    turn: float
    paint: Callable[[Plane, Generator], np.ndarray]
    defects: dict[str, tuple[str, Callable[[np.ndarray, Plane, Generator], np.ndarray]]]


def generate(
    root: Path, seed: int = 0, train: int = 12, good: int = 16, defect: int = 8
) -> None:
    """Write the data set below `root` in the layout of MVTec AD.

    A class has `train` and `good` good images to train and to test on, and `defect`
    images of each type of defect: uint8 RGB, masks 0 or 255 in one channel. An image
    depends on `seed` and its own path alone, whatever the counts.
    """
    for name, part in PARTS.items():
        counts = {f"train/{GOOD}": train, f"test/{GOOD}": good}
        counts |= {f"test/{kind}": defect for kind in part.defects}
        for folder, count in counts.items():
            for index in range(count):
                _write(root / name, folder, f"{index:03}", seed)


def render(name: str, kind: str, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Photograph a part of class `name`; `kind` is one of its defects or `good`.

    Returns the image uint8 [H, W, 3] RGB and its mask uint8 [H, W], 0 or 255. Equal
    generators show the same part in every kind, the same pixels outside the mask.
    """
    part = PARTS[name]
    posing, painting, exposing, marring = rng.spawn(4)
    plane = _pose(part, posing)
    scene = part.paint(plane, painting)
    exposure = _expose(part.shape, exposing)
    image = _photograph(scene, exposure)
    if kind == GOOD:
        return image, np.zeros(part.shape, np.uint8)
    _, mar = part.defects[kind]
    return _changed(image, _photograph(mar(scene, plane, marring), exposure))


def _write(root: Path, folder: str, index: str, seed: int) -> None:
    path = f"{folder}/{index}.png"
    kind = Path(folder).name
    rng = np.random.default_rng([seed, *f"{root.name}/{path}".encode()])
    image, mask = render(root.name, kind, rng)
    _save(root / path, image)
    if kind != GOOD:
        _save(root / "ground_truth" / kind / f"{index}_mask.png", mask)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# Camera


def _pose(part: Part, rng: Generator) -> Plane:
    height, width = part.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x += 0.5 - width / 2 + rng.uniform(-4, 4)
    y += 0.5 - height / 2 + rng.uniform(-4, 4)
    scale = rng.uniform(0.96, 1.04)
    return _turned(x / scale, y / scale, rng.uniform(-part.turn, part.turn))


def _turned(x: np.ndarray, y: np.ndarray, angle: float) -> Plane:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return Plane(cos * x + sin * y, cos * y - sin * x)


def _expose(shape: tuple[int, int], rng: Generator) -> Exposure:
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    slope = rng.uniform(0.1, 0.25) * _turned(x, y, rng.uniform(0, 2 * np.pi)).x
    falloff = 1 + slope - rng.uniform(0, 0.05) * (x**2 + y**2)
    tint = rng.uniform(0.55, 1.1) * rng.normal(1, 0.03, 3)
    noise = rng.uniform(0.01, 0.02) * rng.standard_normal((*shape, 3))
    return Exposure(falloff[..., None] * tint, noise, rng.uniform(0.4, 0.9))


def _photograph(scene: np.ndarray, exposure: Exposure) -> np.ndarray:
    image = cv2.GaussianBlur(scene * exposure.light, (0, 0), exposure.blur)
    return (255 * (image + exposure.noise)).clip(0, 255).round().astype(np.uint8)


def _changed(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    change = cv2.absdiff(before, after).max(-1) >= VISIBLE
    return np.where(change[..., None], after, before), change.astype(np.uint8) * 255


# Surfaces and shapes


def _smooth(rng: Generator, shape: tuple[int, int], x: float, y: float) -> np.ndarray:
    """Noise of unit variance, blurred by sigmas `x` and `y`."""
    white = rng.standard_normal(shape, np.float32)
    noise = cv2.GaussianBlur(white, (0, 0), sigmaX=x, sigmaY=y)
    return noise / noise.std()


def _surface(plane: Plane, colour, grain: float, rng: Generator) -> np.ndarray:
    """A scene of one colour, unevenly so in fine and in coarse."""
    fine = _smooth(rng, plane.x.shape, 1, 1)
    coarse = _smooth(rng, plane.x.shape, 12, 12)
    return np.float32(colour) * (1 + grain * (fine + coarse))[..., None]


def _mat(plane: Plane, colour, rng: Generator) -> np.ndarray:
    """A speckled mat for a part to lie on."""
    speckles = 0.12 * _smooth(rng, plane.x.shape, 1.2, 1.2)
    return np.float32(colour) * (1 + speckles)[..., None]


def _shade(scene: np.ndarray, shading: np.ndarray) -> np.ndarray:
    return scene * (1 + shading[..., None])


def _relief(height: np.ndarray) -> np.ndarray:
    """Shading of a height map by light from the upper left."""
    down, right = np.gradient(height)
    return down + right


def _blend(scene: np.ndarray, cover: np.ndarray, over) -> np.ndarray:
    """Lay `over`, a colour [3] or another scene, over a scene."""
    return scene + cover[..., None] * (np.float32(over) - scene)


def _shadowed(scene: np.ndarray, cover: np.ndarray) -> np.ndarray:
    shadow = np.roll(cv2.GaussianBlur(cover, (0, 0), 4), (4, 4), (0, 1))
    return _shade(scene, -0.5 * shadow)


def _cover(distance: np.ndarray) -> np.ndarray:
    """Cover of the shape whose signed distance, negative inside, is given."""
    return (0.5 - distance).clip(0, 1)


def _blob(plane: Plane, radius: float, rng: Generator) -> np.ndarray:
    """Cover of an uneven disc around 0, somewhat longer than wide."""
    x, y = _turned(*plane, rng.uniform(0, np.pi))
    ragged = 0.2 * radius * _smooth(rng, x.shape, radius / 3, radius / 3)
    return _cover(np.hypot(x, y * rng.uniform(1, 1.5)) - radius + ragged)


def _stroke(plane: Plane, length: float, width: float, rng: Generator) -> np.ndarray:
    """Cover of a bent line through 0 with round ends."""
    x, y = _turned(*plane, rng.uniform(0, np.pi))
    along = x.clip(-length / 2, length / 2)
    bend = rng.uniform(-1, 1) / length
    return _cover(np.hypot(x - along, y - bend * along**2) - width / 2)


def _moved(plane: Plane, x: float, y: float) -> Plane:
    return Plane(plane.x - x, plane.y - y)


def _anywhere(plane: Plane, rng: Generator) -> Plane:
    """Coordinates around a random pixel clear of the image's border."""
    row, column = (int(rng.uniform(0.25, 0.75) * side) for side in plane.x.shape)
    return _moved(plane, plane.x[row, column], plane.y[row, column])


def _on_ring(plane: Plane, rng: Generator) -> Plane:
    angle = rng.uniform(0, 2 * np.pi)
    return _moved(plane, RING * np.cos(angle), RING * np.sin(angle))


# Defects


def _spot(scene, plane, rng, radius, colour, opacity=0.9, soak=0.0, place=_anywhere):
    """A blob of a colour; `soak` is how much of the scene's own pattern stays."""
    blob = _blob(place(plane, rng), rng.uniform(*radius), rng)
    matter = (1 - soak) + soak * scene.mean(-1, keepdims=True) / scene.mean()
    matter = _shade(matter * np.float32(colour), 0.1 * _smooth(rng, blob.shape, 2, 2))
    return _blend(scene, opacity * blob, matter)


def _line(scene, plane, rng, length, width, colour, raised):
    """A thread laid on a scene (`raised` above 0) or a groove cut into it (below)."""
    line = _stroke(
        _anywhere(plane, rng), rng.uniform(*length), rng.uniform(*width), rng
    )
    drawn = _blend(_shadowed(scene, line) if raised > 0 else scene, line, colour)
    return _shade(drawn, raised * _relief(line))


def _dent(scene, plane, rng):
    blob = _blob(_anywhere(plane, rng), rng.uniform(13, 20), rng)
    return _shade(scene, -rng.uniform(3, 5) * _relief(cv2.GaussianBlur(blob, (0, 0), 3)))


def _cut(scene, plane, rng):
    ray = _turned(*plane, rng.uniform(0, 2 * np.pi))
    edge = rng.uniform(6, 9) + rng.uniform(-0.2, 0.2) * (ray.x - RING)
    gap = _cover(np.abs(ray.y) - edge) * _cover(_gasket_distance(plane) - 1)
    return _blend(scene, gap * (ray.x > 0), (0.6, 0.58, 0.54))


def _bent(scene, plane, rng):
    spot = _on_ring(plane, rng)
    pull = rng.choice([-1, 1]) * rng.uniform(16, 20)
    pull *= np.exp(-(spot.x**2 + spot.y**2) / (2 * 14**2))
    outward = np.gradient(np.hypot(*plane))
    y, x = np.indices(pull.shape) + pull * outward
    return cv2.remap(
        scene, np.float32(x), np.float32(y), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _broken(scene, plane, rng, kept):
    """A pill of which only the part beyond the line at `kept` is left."""
    cell, number = _cells(plane)
    half = _turned(*cell, rng.uniform(0, 2 * np.pi)).x - rng.uniform(*kept)
    lost = _cover(np.hypot(*cell) - PILL - 2) * _cover(
        half + 1.5 * _smooth(rng, half.shape, 2, 2)
    )
    return _blend(scene, lost * (number == rng.integers(COLUMNS * ROWS)), POCKET_COLOUR)


# Painters


def _fabric(plane: Plane, rng: Generator) -> np.ndarray:
    u, v = (
        side / THREAD + 0.12 * _smooth(rng, side.shape, 25, 25) + rng.uniform(64, 66)
        for side in plane
    )
    warp = _threads(u, v, (0.36, 0.50, 0.68), rng)
    weft = _threads(v, u, (0.62, 0.68, 0.74), rng)
    return np.where(((u // 1 + v // 1) % 2 == 0)[..., None], warp, weft)


def _threads(across: np.ndarray, along: np.ndarray, colour, rng: Generator):
    tone = rng.normal(1, 0.07, 128)[across.astype(int)]
    arch = np.abs(np.sin(np.pi * across)) ** 0.6 * np.abs(np.sin(np.pi * along)) ** 0.3
    fibre = 0.06 * _smooth(rng, across.shape, 0.8, 0.8)
    return (tone * (0.3 + 0.7 * arch) + fibre)[..., None] * np.float32(colour)


def _metal(plane: Plane, rng: Generator) -> np.ndarray:
    streaks = _smooth(rng, (400, 400), 60, 0.7) + 0.5 * _smooth(rng, (400, 400), 15, 1)
    streaks = cv2.remap(streaks, plane.x + 200, plane.y + 200, cv2.INTER_LINEAR)
    return _shade(_surface(plane, (0.6, 0.61, 0.63), 0.02, rng), 0.11 * streaks)


def _gasket(plane: Plane, rng: Generator) -> np.ndarray:
    table = _mat(plane, (0.66, 0.64, 0.6), rng)
    rubber = _surface(plane, (0.16, 0.17, 0.18), 0.05, rng)
    distance = _gasket_distance(plane)
    rubber = _shade(rubber, 1.5 * _relief((-distance / 5).clip(0, 1)))
    return _blend(_shadowed(table, _cover(distance)), _cover(distance), rubber)


def _gasket_distance(plane: Plane) -> np.ndarray:
    """Signed distance to a ring with three lugs, each with a hole for a bolt."""
    distance = np.abs(np.hypot(*plane) - RING) - RING_WIDTH / 2
    for angle in np.arange(3) * 2 * np.pi / 3:
        lug = _turned(*plane, angle)
        from_bolt = np.hypot(lug.x - RING - 8, lug.y)
        distance = np.maximum(np.minimum(distance, from_bolt - LUG), BOLT - from_bolt)
    return distance


def _blister(plane: Plane, rng: Generator) -> np.ndarray:
    table = _mat(plane, (0.2, 0.24, 0.28), rng)
    foil = _surface(plane, (0.66, 0.68, 0.7), 0.03, rng)
    cell, number = _cells(plane)
    card = _cover(np.maximum(np.abs(plane.x) - COLUMNS * PITCH / 2, np.abs(plane.y) - ROWS * PITCH / 2))
    scene = _blend(_shadowed(table, card), card, foil)
    scene = _bump(scene, np.hypot(*cell) - POCKET, POCKET_COLOUR, -0.8)
    x, y = cell + rng.uniform(-1.5, 1.5, (2, COLUMNS * ROWS))[:, number]
    colour = np.float32((0.86, 0.62, 0.5)) * rng.normal(1, 0.03, (3))
    return _bump(scene, np.hypot(x, y) - PILL, colour, 0.8)


def _bump(scene, distance, colour, height):
    """A round elevation of a colour, or a hollow where `height` is below 0."""
    bump = _blend(scene, _cover(distance), colour)
    return _shade(bump, height * _relief((-distance / 5).clip(0, 1)))


def _cells(plane: Plane) -> tuple[Plane, np.ndarray]:
    """Coordinates around the nearest pill's place, and its number [H, W]."""
    last = COLUMNS - 1, ROWS - 1
    column, row = (
        (side / PITCH + end / 2).round().clip(0, end)
        for side, end in zip(plane, last, strict=True)
    )
    x, y = (column - last[0] / 2) * PITCH, (row - last[1] / 2) * PITCH
    return _moved(plane, x, y), (row * COLUMNS + column).astype(int)


PARTS = {
    "woven_fabric": Part(
        "woven fabric", (192, 192), 0.15, _fabric,
        {
            "hole": ("{} with a hole", partial(_spot, radius=(13, 20), colour=(0.05, 0.05, 0.06), opacity=1)),
            "stain": ("{} with a stain", partial(_spot, radius=(16, 26), colour=(0.3, 0.2, 0.1), soak=1)),
            "thread": ("{} with a loose thread", partial(_line, length=(80, 120), width=(4, 6), colour=(0.9, 0.86, 0.76), raised=0.5)),
        },
    ),
    "brushed_metal": Part(
        "brushed metal", (192, 192), 0.15, _metal,
        {
            "scratch": ("{} with a scratch", partial(_line, length=(70, 120), width=(3.5, 5), colour=(0.25, 0.25, 0.25), raised=-1)),
            "dent": ("{} with a dent", _dent),
            "rust": ("{} with rust", partial(_spot, radius=(13, 22), colour=(0.42, 0.2, 0.08))),
        },
    ),
    "rubber_gasket": Part(
        "rubber gasket", (192, 192), 0.25, _gasket,
        {
            "cut": ("{} with a cut", _cut),
            "bent": ("{} that is bent", _bent),
            "contamination": ("{} with contamination", partial(_spot, radius=(10, 16), colour=(0.75, 0.62, 0.25), place=_on_ring)),
        },
    ),
    "blister_pack": Part(
        "blister pack", (184, 240), 0.07, _blister,
        {
            "missing_pill": ("{} with a missing pill", partial(_broken, kept=(30, 30))),
            "broken_pill": ("{} with a broken pill", partial(_broken, kept=(3, 9))),
            "tear": ("{} with a tear", partial(_line, length=(50, 80), width=(6, 9), colour=(0.12, 0.12, 0.13), raised=-1)),
        },
    ),
}
CLASSES = tuple(PARTS)
PROMPTS = {
    name: {"text": part.text, "states": [state for state, _ in part.defects.values()]}
    for name, part in PARTS.items()
}
