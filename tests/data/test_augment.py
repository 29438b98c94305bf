import numpy as np
import pytest

from fsad.data.augment import (
    Augment,
    copies,
    copies_number,
    equal_angles,
    random_angles,
    rotated,
    rotated_onto_black,
)

IMAGE = np.random.default_rng(0).integers(1, 256, (20, 30, 3), np.uint8)
KINDS = [Augment(), Augment("rotations", 8), Augment("random_rotations", 5)]


@pytest.mark.parametrize("augment", KINDS, ids=[a.kind for a in KINDS])
def test_copies_begin_with_the_image_and_have_its_shape(augment):
    found = copies(IMAGE, augment, (1, 2))
    assert len(found) == copies_number(augment)
    assert np.array_equal(found[0], IMAGE)
    assert all(x.shape == IMAGE.shape and x.dtype == np.uint8 for x in found)
    assert not any(np.array_equal(x, IMAGE) for x in found[1:])


def test_rotations_are_equal_steps_of_a_turn():
    assert equal_angles(8) == [0, 45, 90, 135, 180, 225, 270, 315]
    found = copies(IMAGE, Augment("rotations", 4))
    assert np.array_equal(found[2], rotated(IMAGE, 180))


def test_half_a_turn_about_the_published_centre():
    half = rotated(IMAGE, 180)  # about a corner of the middle pixel: shifted by one
    assert np.array_equal(half[1:, 1:], IMAGE[::-1, ::-1][:-1, :-1])


@pytest.mark.parametrize("shape", [(2, 40_000, 3), (40_000, 2, 3)])
def test_a_line_scan_longer_than_16_bits_is_turned(shape):
    image = np.resize(IMAGE, shape)
    half, black = rotated(image, 180), rotated_onto_black(image, 180)
    assert np.array_equal(half[1:, 1:], image[::-1, ::-1][:-1, :-1])
    assert np.array_equal(black, image[::-1, ::-1])


def test_rotations_mirror_the_image_at_its_edges():
    assert rotated(IMAGE, 45).min() > 0
    assert rotated_onto_black(IMAGE, 45)[0, 0].tolist() == [0, 0, 0]


def test_random_rotations_keep_the_values_of_pixels():
    turned = rotated_onto_black(IMAGE, 30)
    seen = {tuple(pixel) for pixel in turned.reshape(-1, 3).tolist()}
    assert seen <= {tuple(p) for p in IMAGE.reshape(-1, 3).tolist()} | {(0, 0, 0)}
    assert np.array_equal(
        rotated_onto_black(IMAGE[:, :20], 90), np.rot90(IMAGE[:, :20])
    )


def test_random_angles_follow_their_key():
    angles = random_angles(1000, (1, 2))
    assert angles == random_angles(1000, (1, 2)) != random_angles(1000, (1, 3))
    assert 0 <= min(angles) < 5
    assert 340 < max(angles) <= 345
    first, second = (copies(IMAGE, KINDS[2], key) for key in ((1, 2), (1, 3)))
    assert not np.array_equal(first[1], second[1])
