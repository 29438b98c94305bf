"""Endless generated parts, sound and marred, with words: what the demo's CLIP learns.

A design fixes what a part looks like; each photograph has its own pose, light and
grain. No surface, object or defect here is one of `promptad.demo`, which is only
tested on. Planes are in halves of an image's side (`promptad.painting`). A field is a
function of a plane, float [H, W]; a *maker* turns a part's generator into a field or
a scene, so that what is random in a material differs from part to part.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator, default_rng

from fsad.demo.drawing import (
    Array,
    blend,
    changed,
    cover,
    moved,
    relief,
    turned,
)

SIDE = 112  # pixels of an image's side
TILE = 256  # pixels of the side of a periodic texture
SPECK = 12  # marred pixels below which another defect is drawn
TRIES = 6

Field = Callable[[Array], Array]
Maker = Callable[[Generator], Field]
Defect = Callable[["Design", Field, Array, Generator], Array]


class Camera(NamedTuple):
    """Spread of poses and light; a lamp: direction, place, width and gain of its glow;
    blur, noise and saturation of every photograph, and spread of its logarithmic gamma.
    """

    turn: float
    shift: float
    light: float
    lamp: tuple[float, float, float, float]
    blur: float
    noise: float
    saturation: float
    gamma: float


class Design(NamedTuple):
    """A kind of part. `layers` hold (distance, material, height, bevel); the first
    is the body, and there is none where the ground itself is the part."""

    noun: str
    ground: Maker
    layers: list[tuple[Field, Maker, float, float]]
    camera: Camera


class Episode(NamedTuple):
    """Two sound parts and a marred one: uint8 [3, SIDE, SIDE, 3] RGB, the mask of the
    last, uint8 [SIDE, SIDE], 0 or 255, and the words for the part and its defect."""

    images: Array
    mask: Array
    noun: str
    defect: str


def draw_episode(seed: int) -> Episode:
    """The episode of a seed, always the same."""
    rng = default_rng([seed, SIDE])
    design = _design(rng)
    defect = rng.integers(len(DEFECTS))
    seeds = rng.integers(2**62, size=3)
    sound = [_photograph(design, seed) for seed in seeds[:2]]
    marred, mask = _marred(design, list(DEFECTS)[defect], seeds[2])
    words = str(rng.choice(list(DEFECTS.values())[defect]))
    return Episode(np.stack([*sound, marred]), mask, design.noun, words)


def vocabulary() -> tuple[list[str], list[str]]:
    """All words for parts and all words for defects."""
    nouns = chain(*MATERIALS.values(), *SHAPES.values())
    return list(nouns), list(chain(*DEFECTS.values()))


def _design(rng: Generator) -> Design:
    ground, kind = _material(rng)
    if rng.random() < 0.4:
        noun = str(rng.choice(MATERIALS[kind]))
        return Design(noun, ground, [], _camera(rng, [0.05, 0.3]))
    if rng.random() < 0.5:
        ground = _plain(_colour(rng) * rng.choice([0.2, 1, 1]))
    shape = _one(rng, list(SHAPES))
    size = rng.uniform(0.5, 1.0)
    body = shape(rng, size)
    layers = [_layer(rng, body, (-0.5, 1.2), (0.03, 0.15))]
    for _ in range(rng.integers(0, 5)):
        detail = _detail(rng, body, size)
        layers.append(_layer(rng, detail, (-1.2, 1.2), (0.02, 0.08)))
    noun = str(rng.choice(SHAPES[shape]))
    return Design(noun, ground, layers, _camera(rng, [0.03, 0.03, 0.15, np.pi]))


def _camera(rng: Generator, turns: list[float]) -> Camera:
    return Camera(
        turn=rng.choice(turns),
        shift=rng.uniform(0.01, 0.08),
        light=rng.choice([0.05, 0.2, 0.3]),
        lamp=_lamp(rng),
        blur=rng.uniform(0.3, 0.9),
        noise=rng.choice([0.004, 0.015, 0.03]),
        saturation=rng.choice([0, 0, 0.3, 1]),
        gamma=rng.choice([0, 0.1, 0.3]),
    )


def _lamp(rng: Generator) -> tuple[float, float, float, float]:
    gain = rng.choice([0, rng.uniform(-0.7, 1.2)])
    return rng.uniform(0, np.pi), rng.uniform(-1, 1), rng.uniform(0.2, 1), gain


def _layer(rng, distance, heights, bevels):
    height = rng.uniform(*heights) * rng.integers(0, 2)
    return distance, _material(rng)[0], height, rng.uniform(*bevels)


def _detail(rng: Generator, body: Field, size: float) -> Field:
    """A smaller shape within the body, once or in several places."""
    shape = _one(rng, list(SHAPES))(rng, size * rng.uniform(0.06, 0.6))
    folded, angle = _folding(rng, size), rng.uniform(0, 2 * np.pi)
    return lambda p: np.maximum(shape(folded(turned(p, angle))), body(p) + 0.01)


def _photograph(design: Design, seed: int) -> Array:
    posing, painting, exposing, _ = _streams(seed)
    plane = _pose(design.camera, posing)
    return _expose(_painter(design, painting)(plane), design.camera, exposing)


def _marred(design: Design, defect: Defect, seed: int) -> tuple[Array, Array]:
    """A photograph with a defect and its mask; drawn again if it cannot be seen."""
    for attempt in range(TRIES):
        posing, painting, exposing, marring = _streams(seed + attempt)
        plane, paint = _pose(design.camera, posing), _painter(design, painting)
        scene = defect(design, paint, plane, marring)
        after = _expose(scene, design.camera, exposing)
        before = _expose(paint(plane), design.camera, _streams(seed + attempt)[2])
        image, mask = changed(before, after)
        if np.count_nonzero(mask) >= SPECK:
            break
    return image, mask


def _streams(seed: int) -> list[Generator]:
    return [default_rng(s) for s in default_rng(seed).integers(2**62, size=4)]


def _painter(design: Design, rng: Generator) -> Field:
    """A part of this design, as a function of the plane it lies in."""
    ground = design.ground(rng)
    layers = [(d, make(rng), height, bevel) for d, make, height, bevel in design.layers]

    def paint(plane: Array) -> Array:
        scene = ground(plane)
        for distance, material, height, bevel in layers:
            scene = _bevelled(scene, distance(plane), material(plane), height, bevel)
        return scene

    return paint


def _square() -> Array:
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
    return np.stack([x, y])


def _pose(camera: Camera, rng: Generator) -> Array:
    plane = moved(_square(), *rng.uniform(-camera.shift, camera.shift, 2))
    scale = rng.uniform(1 - camera.shift, 1 + camera.shift)
    return turned(plane / scale, rng.uniform(-camera.turn, camera.turn))


def _expose(scene: Array, camera: Camera, rng: Generator) -> Array:
    lit = np.float32(scene * _light(camera, rng)[..., None] * rng.normal(1, 0.02, 3))
    image = cv2.GaussianBlur(lit, (0, 0), camera.blur * rng.uniform(0.8, 1.2))
    image = image.clip(0, None) ** np.exp(rng.normal(0, camera.gamma))
    image = image + camera.noise * rng.standard_normal(image.shape, np.float32)
    grey = image.mean(-1, keepdims=True)
    image = grey + camera.saturation * (image - grey)
    return (255 * image).clip(0, 255).round().astype(np.uint8)


def _light(camera: Camera, rng: Generator) -> Array:
    slope, _ = turned(_square(), rng.uniform(0, 2 * np.pi))
    angle, place, width, gain = camera.lamp
    across, _ = turned(_square(), angle)
    far = (across - place - rng.normal(0, 0.5 * camera.light)) / width
    glow = gain * rng.normal(1, camera.light) * np.exp(-(far**2))
    light = (1 + camera.light * rng.uniform(0, 1) * slope) * (1 + glow)
    return light * rng.normal(1, camera.light / 2)


def _one(rng: Generator, things: list):
    return things[rng.integers(len(things))]


def _colour(rng: Generator) -> Array:
    spread = rng.choice([0.02, 0.1, 0.3]) * rng.standard_normal(3)
    return np.clip(rng.uniform(0.05, 0.95) + spread, 0.02, 1)


def _plain(colour: Array) -> Maker:
    return lambda rng: lambda plane: np.broadcast_to(colour, (*plane.shape[1:], 3))


def _soft(distance: Array, softness: float = 1 / SIDE) -> Array:
    """Cover of a shape whose edge is `softness` wide to both sides."""
    return cover(distance / (2 * softness))


def _bevelled(scene, distance, over, height, width):
    bevel = relief((-distance / width).clip(0, 1) * width * SIDE / 4)
    scene = blend(scene, _soft(distance), over)
    return scene * (1 + height * bevel[..., None]).clip(0, 3)


# Materials: two colours mixed by a sum of fields.


def _material(rng: Generator) -> tuple[Maker, Callable]:
    """A maker of scenes, and the kind of its main field."""
    kinds = [_one(rng, FIELDS) for _ in range(rng.integers(1, 4))]
    makers = [kind(rng) for kind in kinds]
    seeds = rng.integers(2**62, size=len(kinds))
    printed = rng.random(len(kinds)) < 0.25  # the same on every part
    low = _colour(rng)
    step = (_colour(rng) - low) * rng.uniform(0.1, 1)
    gain, height = rng.uniform(0.3, 1.5), rng.choice([0, rng.uniform(0.05, 0.5)])
    batch = rng.choice([0.02, 0.1])

    def make(part: Generator) -> Field:
        fields = [
            maker(default_rng(seed) if same else part)
            for maker, seed, same in zip(makers, seeds, printed, strict=True)
        ]
        tint = part.normal(1, batch) * part.normal(1, 0.2 * batch, 3)

        def paint(plane: Array) -> Array:
            field = sum(0.6**i * field(plane) for i, field in enumerate(fields))
            mix = 1 / (1 + np.exp(-2 * gain * field))
            scene = (low + step * mix[..., None]) * tint
            return scene * (1 + 0.5 * height * relief(field)[..., None])

        return paint

    return make, kinds[0]


def _lookup(tile: Array, plane: Array, scale: float) -> Array:
    x, y = (plane * scale * TILE).astype(np.float32) % TILE
    return cv2.remap(tile, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _smooth(rng: Generator, x: float, y: float) -> Array:
    """A periodic tile of noise, unit variance, blurred by sigmas of x and y pixels."""
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE), np.float32))
    rows, columns = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)
    spectrum *= np.exp(-2 * np.pi**2 * ((columns * x) ** 2 + (rows * y) ** 2))
    noise = np.fft.irfft2(spectrum, s=(TILE, TILE)).astype(np.float32)
    return noise / noise.std()


def _noise(rng: Generator) -> Maker:
    fade, sigma = rng.uniform(0.5, 1.5), rng.uniform(1.5, 12) * _one(rng, [1, 2])
    stretch = rng.choice([1, 1, _between(rng, 3, 60)]) ** 0.5
    angle, octaves = rng.uniform(0, np.pi), range(rng.integers(1, 4))
    scale = rng.uniform(0.3, 0.7)

    def make(part: Generator) -> Field:
        x, y = sigma * stretch, sigma / stretch
        tile = sum(fade**-i * _smooth(part, x / 2**i, y / 2**i) for i in octaves)
        return lambda p: _lookup(tile / tile.std(), turned(p, angle), scale)

    return make


def _waves(rng: Generator) -> Maker:
    frequency, angle = rng.uniform(3, 30), rng.uniform(0, np.pi)
    warp, sigma = rng.choice([0, rng.uniform(0.2, 2)]), rng.uniform(4, 15)
    edge = rng.uniform(0.5, 4)

    def make(part: Generator) -> Field:
        drift, start = warp * _smooth(part, sigma, sigma), part.uniform(0, 2 * np.pi)

        def field(p: Array) -> Array:
            phase = frequency * turned(p, angle)[0] + _lookup(drift, p, 0.4) + start
            return 1.3 * np.tanh(edge * np.sin(phase))

        return field

    return make


def _rings(rng: Generator) -> Maker:
    frequency, middle = rng.uniform(8, 40), rng.uniform(-2, 2, 2)
    warp, sigma, stretch = rng.uniform(0.5, 3), rng.uniform(8, 25), rng.uniform(1, 4)

    def make(part: Generator) -> Field:
        drift, start = warp * _smooth(part, sigma, sigma), part.uniform(0, 2 * np.pi)

        def field(p: Array) -> Array:
            x, y = moved(p, *middle)
            radius = frequency * np.hypot(x, y / stretch)
            return 1.4 * np.sin(radius + _lookup(drift, p, 0.4) + start)

        return field

    return make


def _cells(rng: Generator) -> Maker:
    count, scale = int(rng.uniform(30, 500)), rng.uniform(0.3, 0.6)
    tone = _one(rng, [_depth, _patches, _seams])

    def make(part: Generator) -> Field:
        points = np.full((TILE, TILE), 255, np.uint8)
        points[tuple(part.integers(0, TILE, (2, count)))] = 0
        depth, labels = cv2.distanceTransformWithLabels(
            np.tile(points, (3, 3)), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_CCOMP
        )
        middle = (slice(TILE, 2 * TILE),) * 2
        tile = tone(depth[middle], labels[middle], part)
        tile = np.float32((tile - tile.mean()) / (tile.std() + 1e-6))
        return lambda p: _lookup(tile, p, scale)

    return make


def _depth(depth: Array, labels: Array, part: Generator) -> Array:
    return depth


def _patches(depth: Array, labels: Array, part: Generator) -> Array:
    return part.standard_normal(labels.max() + 1)[labels]


def _seams(depth: Array, labels: Array, part: Generator) -> Array:
    ridges = (cv2.Laplacian(depth, cv2.CV_32F) > 0.5).astype(np.float32)
    return -cv2.GaussianBlur(ridges, (0, 0), 0.8)


def _lattice(rng: Generator) -> Maker:
    pitch, aspect = rng.uniform(1, 7), rng.uniform(0.5, 2)
    angle, gap = rng.uniform(0, np.pi), rng.uniform(0.05, 0.3)
    kind, spread = rng.integers(3), rng.choice([0, 0.4])

    def make(part: Generator) -> Field:
        start, tones = part.uniform(0, 1, 2), spread * part.standard_normal((64, 64))

        def field(p: Array) -> Array:
            x, y = turned(p, angle) * pitch
            u, v = x + start[0], y * aspect + start[1]
            if kind == 0:  # every other row is set off, as bricks are
                v = v + 0.5 * (np.floor(u) % 2)
            a, b = np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)
            edge = np.hypot(a, b) if kind == 2 else np.maximum(a, b)
            tone = tones[np.floor(u).astype(int) % 64, np.floor(v).astype(int) % 64]
            return np.tanh(20 * (0.5 - gap - edge)) + tone

        return field

    return make


# Shapes of about `size`: signed distances, negative inside.


def _lump(rng: Generator, size: float) -> Field:
    waves = np.arange(2, 6)
    amounts, starts = rng.normal(0, 0.12, 4) / waves**0.5, rng.uniform(0, 7, 4)

    def distance(p: Array) -> Array:
        angle = np.arctan2(p[1], p[0])
        ripples = zip(waves, amounts, starts, strict=True)
        return np.hypot(*p) - size * (
            1 + sum(a * np.cos(n * angle + s) for n, a, s in ripples)
        )

    return distance


def _polygon(rng: Generator, size: float) -> Field:
    sides, stretch = rng.integers(3, 9), rng.uniform(0.6, 1)
    angles = np.arange(sides) * 2 * np.pi / sides
    return lambda p: (
        np.max([p[0] * np.cos(a) + p[1] / stretch * np.sin(a) for a in angles], 0)
        - 0.85 * size
    )


def _box(rng: Generator, size: float) -> Field:
    width, height = size * rng.uniform(0.8, 1.1), size * rng.uniform(0.25, 1.1)
    corner = rng.uniform(0, 0.9) * min(width, height)

    def distance(p: Array) -> Array:
        x, y = np.abs(p[0]) - width + corner, np.abs(p[1]) - height + corner
        inside = np.minimum(np.maximum(x, y), 0)
        return np.hypot(x.clip(0), y.clip(0)) + inside - corner

    return distance


def _gear(rng: Generator, size: float) -> Field:
    teeth, depth, edge = rng.integers(6, 30), rng.uniform(0.03, 0.15), rng.uniform(1, 6)

    def distance(p: Array) -> Array:
        wave = np.tanh(edge * np.cos(teeth * np.arctan2(p[1], p[0])))
        return np.hypot(*p) - size * (1 - depth + depth * wave)

    return distance


def _disc(rng: Generator, size: float) -> Field:
    return lambda p: np.hypot(*p) - size


def _hoop(rng: Generator, size: float) -> Field:
    width = size * rng.uniform(0.1, 0.35)
    return lambda p: np.abs(np.hypot(*p) - size + width) - width


def _screw(rng: Generator, size: float) -> Field:
    height, pitch = size * rng.uniform(0.15, 0.4), rng.uniform(15, 50)
    depth, slant = height * rng.uniform(0.05, 0.3), rng.uniform(-0.3, 0.3)

    def distance(p: Array) -> Array:
        thread = depth * np.sin(pitch * (p[0] + slant * p[1]))
        return np.maximum(np.abs(p[1]) - height - thread, np.abs(p[0]) - 1.1 * size)

    return distance


def _folding(rng: Generator, size: float) -> Field:
    """From a plane to that around the nearest of the places a detail stands in."""
    kind = rng.integers(4)
    if kind == 0:
        return lambda p: p
    if kind == 1:
        place = rng.uniform(-0.6, 0.6, 2) * size
        return lambda p: moved(p, *place)
    if kind == 2:
        return partial(_around, rng.integers(2, 13), size * rng.uniform(0.4, 0.85))
    step, counts = size * rng.uniform(0.2, 0.6), rng.integers(1, 4, 2)
    return lambda p: np.float32(
        [
            x - step * np.round(x / step).clip(-n, n)
            for x, n in zip(p, counts, strict=True)
        ]
    )


def _around(count: int, radius: float, plane: Array) -> Array:
    step = 2 * np.pi / count
    angle = (np.arctan2(plane[1], plane[0]) + step / 2) % step - step / 2
    distance = np.hypot(*plane)
    return np.float32([distance * np.cos(angle) - radius, distance * np.sin(angle)])


# Defects: (design, painter, plane, generator) to the marred scene.


def _somewhere(design: Design, plane: Array, rng: Generator) -> Array:
    """The plane around a random pixel of the part."""
    inside = np.abs(plane).max(0) < 0.95
    if design.layers:
        body = design.layers[0][0]
        inside &= body(plane) < -0.02
    rows, columns = np.nonzero(inside)
    if not len(rows):
        rows, columns = np.indices(plane.shape[1:]).reshape(2, -1)
    i = rng.integers(len(rows))
    return moved(plane, *plane[:, rows[i], columns[i]])


def _between(rng: Generator, low: float, high: float) -> float:
    """A number drawn evenly on a logarithmic scale."""
    return np.exp(rng.uniform(np.log(low), np.log(high)))


def _radius(rng: Generator) -> float:
    return _between(rng, 0.05, 0.4)


def _blot(plane: Array, radius: float, rng: Generator) -> Array:
    """Signed distance to an uneven blot around 0."""
    x, y = turned(plane, rng.uniform(0, 2 * np.pi))
    ragged = rng.uniform(0.05, 0.4) * radius
    noise = _lookup(_smooth(rng, 6, 6), plane, 0.075 / max(radius, 0.05))
    return np.hypot(x, y * rng.uniform(1, 2)) - radius + ragged * noise


def _bell(plane: Array, radius: float) -> Array:
    return np.exp(-(plane**2).sum(0) / (2 * (0.6 * radius) ** 2))


def _spot(design, paint, plane, rng):
    scene = paint(plane)
    blot = _blot(_somewhere(design, plane, rng), _radius(rng), rng)
    over = _colour(rng) if rng.random() < 0.5 else _material(rng)[0](rng)(plane)
    if rng.random() < 0.3:  # what lies below shows through
        over = over * scene.mean(-1, keepdims=True) / scene.mean()
    shape = _soft(blot, rng.choice([0.006, 0.03, 0.08])) * rng.uniform(0.6, 1)
    return blend(scene, shape, over)


def _line(design, paint, plane, rng):
    scene, place = paint(plane), _somewhere(design, plane, rng)
    length, width = _between(rng, 0.2, 1.2), _between(rng, 0.008, 0.04)
    pieces = _pieces(rng.integers(2, 9), length, rng.choice([0.05, 0.3, 0.8]), rng)
    shape = _soft(np.min([_piece(place, *piece) for piece in pieces], 0) - width)
    tone = rng.choice([0.05, 0.4, 1.5, 2.5])
    over = scene * tone if rng.random() < 0.6 else _colour(rng)
    shading = rng.uniform(-1, 1) * relief(shape)
    return blend(scene, shape, over) * (1 + shading[..., None])


def _pieces(
    count: int, length: float, bend: float, rng: Generator
) -> Iterator[tuple[float, float, float, float]]:
    """Start, direction and length of the pieces of a jagged line from 0."""
    x, y, angle, step = 0.0, 0.0, rng.uniform(0, 2 * np.pi), length / count
    for _ in range(count):
        angle += rng.normal(0, bend)
        yield x, y, angle, step
        x, y = x + step * np.cos(angle), y + step * np.sin(angle)


def _piece(plane: Array, x: float, y: float, angle: float, length: float) -> Array:
    along, across = turned(moved(plane, x, y), angle)
    return np.hypot(along - along.clip(0, length), across)


def _hole(design, paint, plane, rng):
    blot = _blot(_somewhere(design, plane, rng), 0.7 * _radius(rng), rng)
    dark = _colour(rng) * rng.choice([0.1, 0.4])
    return _bevelled(paint(plane), blot, dark, -rng.uniform(0.3, 1.5), 0.04)


def _dent(design, paint, plane, rng):
    radius = _radius(rng)
    bell = _bell(_somewhere(design, plane, rng), radius)
    depth = rng.choice([-1, 1]) * rng.uniform(40, 100) * radius
    return paint(plane) * (1 + depth * relief(bell)[..., None]).clip(0.1, 3)


def _missing(design, paint, plane, rng):
    scene, radius = paint(plane), 1.2 * _radius(rng)
    place = turned(_somewhere(design, plane, rng), rng.uniform(0, 2 * np.pi))
    cut = np.maximum(_blot(place, radius, rng), -place[0] - radius * rng.uniform(0, 1))
    if design.layers:
        below = design.ground(rng)(plane)
    else:
        below = scene[::-1, ::-1] * rng.uniform(0.3, 0.8)
    return blend(scene, _soft(cut), below)


def _bend(design, paint, plane, rng):
    radius, angle = 1.2 * _radius(rng) + 0.05, rng.uniform(0, 2 * np.pi)
    pull = rng.uniform(0.4, 1) * radius * np.float32([np.cos(angle), np.sin(angle)])
    return paint(
        plane + pull[:, None, None] * _bell(_somewhere(design, plane, rng), radius)
    )


def _swap(design, paint, plane, rng):
    blot = _blot(_somewhere(design, plane, rng), _radius(rng), rng)
    shifted = moved(plane, *rng.uniform(-0.6, 0.6, 2))
    elsewhere = paint(turned(shifted, rng.uniform(0, 2 * np.pi)))
    return blend(paint(plane), _soft(blot), elsewhere)


def _tinge(design, paint, plane, rng):
    blot = _blot(_somewhere(design, plane, rng), 1.3 * _radius(rng), rng)
    shape = _soft(blot, rng.choice([0.006, 0.05, 0.15]))[..., None]
    grey = np.full(3, rng.choice([0.4, 0.6, 1.5, 1.9]))
    tint = rng.normal(1, 0.35, 3) if rng.random() < 0.5 else grey
    return paint(plane) * (1 + shape * (tint - 1)).clip(0.1)


def _print(design, paint, plane, rng):
    scene, ink = paint(plane), _colour(rng)
    line = turned(_somewhere(design, plane, rng), rng.uniform(0, 2 * np.pi))
    width, height = rng.uniform(0.01, 0.03), rng.uniform(0.05, 0.15)
    for i in range(rng.integers(2, 7)):
        place = turned(moved(line, 1.2 * i * height, 0), rng.choice([0, np.pi / 2, 1]))
        scene = blend(scene, _soft(_letter(place, width, height, rng)), ink)
    return scene


def _letter(plane: Array, width: float, height: float, rng: Generator) -> Array:
    """Signed distance to a ring or a bar."""
    if rng.random() < 0.4:
        return np.abs(np.hypot(*plane) - height / 2) - width
    return np.maximum(np.abs(plane[0]) - width, np.abs(plane[1]) - height / 2)


FIELDS = _noise, _noise, _noise, _waves, _rings, _cells, _lattice
MATERIALS = {
    _noise: ["stone", "leather", "felt", "paper", "concrete"],
    _waves: ["ribbed sheet", "corduroy", "grating"],
    _rings: ["wood", "timber"],
    _cells: ["granite", "cork", "foam"],
    _lattice: ["tile", "mesh", "grid", "carpet"],
}
SHAPES = {
    _lump: ["nut", "seed", "pebble", "cookie"],
    _polygon: ["badge", "bolt head", "prism"],
    _box: ["plate", "box", "chip", "card"],
    _gear: ["gear", "bottle cap", "cog"],
    _disc: ["disc", "coin", "lens", "bottle"],
    _hoop: ["washer", "hoop", "bearing"],
    _screw: ["screw", "rod", "shaft", "cable"],
}
DEFECTS = {
    _spot: ["stain", "contamination", "spot", "grease"],
    _line: ["scratch", "crack", "thread", "cut"],
    _hole: ["hole", "poke", "blowhole"],
    _dent: ["dent", "bump", "squeeze"],
    _missing: ["missing part", "breakage", "chip"],
    _bend: ["bend", "deformation", "fold"],
    _swap: ["misplaced part", "wrong pattern"],
    _tinge: ["discolouration", "uneven colour", "rust"],
    _print: ["print", "marking", "glue"],
}
