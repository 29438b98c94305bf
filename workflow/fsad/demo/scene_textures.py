"""Random materials of scenes: two colours mixed by a sum of random fields.

Whatever a maker draws differs between the parts that are made of a material. Planes are
in halves of an image's side.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator, default_rng

from fsad.demo.drawing import Array, Field, Maker, relief, rotate, shift

TILE = 256  # side of a periodic texture in pixels


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Random number, uniform on a logarithmic scale."""
    return np.exp(rng.uniform(np.log(low), np.log(high)))


def random_colour(rng: Generator) -> Array:
    """Random RGB colour [3], often close to grey."""
    spread = rng.choice([0.02, 0.1, 0.3]) * rng.standard_normal(3)
    return np.clip(rng.uniform(0.05, 0.95) + spread, 0.02, 1)


def plain(colour: Array) -> Maker:
    """Material of one colour."""
    return lambda rng: lambda plane: np.broadcast_to(colour, (*plane.shape[1:], 3))


def random_material(rng: Generator) -> tuple[Maker, Callable]:
    """Maker of scenes of a random material, and the kind of its main field."""
    kinds = [rng.choice(FIELDS) for _ in range(rng.integers(1, 4))]
    make_field = _sum_of_fields([kind(rng) for kind in kinds], rng)
    low = random_colour(rng)
    step = (random_colour(rng) - low) * rng.uniform(0.1, 1)
    gain, height = rng.uniform(0.3, 1.5), rng.choice([0, rng.uniform(0.05, 0.5)])
    batch = rng.choice([0.02, 0.1])

    def make(part: Generator) -> Field:
        field = make_field(part)
        tint = part.normal(1, batch) * part.normal(1, 0.2 * batch, 3)

        def paint(plane: Array) -> Array:
            values = field(plane)
            mix = 1 / (1 + np.exp(-2 * gain * values))
            scene = (low + step * mix[..., None]) * tint
            return scene * (1 + 0.5 * height * relief(values)[..., None])

        return paint

    return make, kinds[0]


def _sum_of_fields(makers: list[Maker], rng: Generator) -> Maker:
    """Maker of a weighted sum of fields, some of which are equal on all parts."""
    seeds = rng.integers(2**62, size=len(makers))
    kinds = list(zip(makers, seeds, rng.random(len(makers)) < 0.25, strict=True))

    def make(part: Generator) -> Field:
        fields = [kind(default_rng(s) if same else part) for kind, s, same in kinds]
        return lambda p: sum(0.6**i * field(p) for i, field in enumerate(fields))

    return make


def sample_tile(tile: Array, plane: Array, scale: float) -> Array:
    """Periodic texture [TILE, TILE] at the points of a plane, bilinear."""
    x, y = (plane * scale * TILE).astype(np.float32) % TILE
    return cv2.remap(tile, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def noise_tile(rng: Generator, sigma_x: float, sigma_y: float) -> Array:
    """Periodic blurred noise of unit variance, [TILE, TILE]; sigmas in pixels."""
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE), np.float32))
    rows, columns = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)
    exponent = (columns * sigma_x) ** 2 + (rows * sigma_y) ** 2
    spectrum *= np.exp(-2 * np.pi**2 * exponent)
    noise = np.fft.irfft2(spectrum, s=(TILE, TILE)).astype(np.float32)
    return noise / noise.std()


# Kinds of fields: functions of the generator of a design that return a maker.


def _noise(rng: Generator) -> Maker:
    fade, sigma = rng.uniform(0.5, 1.5), rng.uniform(1.5, 12) * rng.choice([1, 2])
    stretch = rng.choice([1, 1, log_uniform(rng, 3, 60)]) ** 0.5
    angle, octaves = rng.uniform(0, np.pi), range(rng.integers(1, 4))
    scale = rng.uniform(0.3, 0.7)

    def make(part: Generator) -> Field:
        x, y = sigma * stretch, sigma / stretch
        tile = sum(fade**-i * noise_tile(part, x / 2**i, y / 2**i) for i in octaves)
        return lambda p: sample_tile(tile / tile.std(), rotate(p, angle), scale)

    return make


def _warped(phase: Field, warp: float, sigma: float, wave: Field) -> Maker:
    """Maker of a wave whose phase has a start and a drift of each part."""

    def make(part: Generator) -> Field:
        drift, start = warp * noise_tile(part, sigma, sigma), part.uniform(0, 2 * np.pi)
        return lambda p: wave(phase(p) + sample_tile(drift, p, 0.4) + start)

    return make


def _waves(rng: Generator) -> Maker:
    frequency, angle = rng.uniform(3, 30), rng.uniform(0, np.pi)
    warp, sigma = rng.choice([0, rng.uniform(0.2, 2)]), rng.uniform(4, 15)
    edge = rng.uniform(0.5, 4)

    def wave(phase: Array) -> Array:
        return 1.3 * np.tanh(edge * np.sin(phase))

    return _warped(lambda p: frequency * rotate(p, angle)[0], warp, sigma, wave)


def _rings(rng: Generator) -> Maker:
    frequency, centre = rng.uniform(8, 40), rng.uniform(-2, 2, 2)
    warp, sigma, stretch = rng.uniform(0.5, 3), rng.uniform(8, 25), rng.uniform(1, 4)

    def phase(p: Array) -> Array:
        x, y = shift(p, *centre)
        return frequency * np.hypot(x, y / stretch)

    return _warped(phase, warp, sigma, lambda x: 1.4 * np.sin(x))


def _cells(rng: Generator) -> Maker:
    """Voronoi cells of random points, by depth, by number or by their borders."""
    count, scale = int(rng.uniform(30, 500)), rng.uniform(0.3, 0.6)
    kind, centre = rng.integers(3), (slice(TILE, 2 * TILE),) * 2

    def make(part: Generator) -> Field:
        points = np.full((TILE, TILE), 255, np.uint8)
        points[tuple(part.integers(0, TILE, (2, count)))] = 0
        tile, labels = cv2.distanceTransformWithLabels(
            np.tile(points, (3, 3)), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_CCOMP
        )
        tile, labels = tile[centre], labels[centre]
        if kind == 1:
            tile = part.standard_normal(labels.max() + 1)[labels]
        elif kind == 2:
            ridges = (cv2.Laplacian(tile, cv2.CV_32F) > 0.5).astype(np.float32)
            tile = -cv2.GaussianBlur(ridges, (0, 0), 0.8)
        tile = np.float32((tile - tile.mean()) / (tile.std() + 1e-6))
        return lambda p: sample_tile(tile, p, scale)

    return make


def _lattice(rng: Generator) -> Maker:
    pitch, aspect = rng.uniform(1, 7), rng.uniform(0.5, 2)
    angle, gap = rng.uniform(0, np.pi), rng.uniform(0.05, 0.3)
    kind, spread = rng.integers(3), rng.choice([0, 0.4])

    def make(part: Generator) -> Field:
        start, tones = part.uniform(0, 1, 2), spread * part.standard_normal((64, 64))

        def field(p: Array) -> Array:
            x, y = rotate(p, angle) * pitch
            u, v = x + start[0], y * aspect + start[1]
            if kind == 0:  # every other row is offset by half, as in brickwork
                v = v + 0.5 * (np.floor(u) % 2)
            a, b = np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)
            edge = np.hypot(a, b) if kind == 2 else np.maximum(a, b)
            tone = tones[np.floor(u).astype(int) % 64, np.floor(v).astype(int) % 64]
            return np.tanh(20 * (0.5 - gap - edge)) + tone

        return field

    return make


FIELDS = _noise, _noise, _noise, _waves, _rings, _cells, _lattice
MATERIALS = {
    _noise: ["stone", "leather", "felt", "paper", "concrete"],
    _waves: ["ribbed sheet", "corduroy", "grating"],
    _rings: ["wood", "timber"],
    _cells: ["granite", "cork", "foam"],
    _lattice: ["tile", "mesh", "grid", "carpet"],
}
