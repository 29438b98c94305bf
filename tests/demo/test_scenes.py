"""The scenes of the training: reproducible, well formed, exactly masked, and new."""

import cv2
import numpy as np
import pytest

from fsad.demo import dataset, scenes
from fsad.demo.drawing import VISIBLE
from fsad.demo.scene_defects import DEFECTS

SEEDS = range(12)


@pytest.fixture(scope="module")
def episodes():
    return [scenes.draw_episode(seed) for seed in SEEDS]


def test_a_seed_gives_the_same_episode(episodes):
    again = scenes.draw_episode(3)
    assert np.array_equal(again.images, episodes[3].images)
    assert np.array_equal(again.mask, episodes[3].mask)
    assert again[2:] == episodes[3][2:]


def test_images_and_masks_are_well_formed(episodes):
    for episode in episodes:
        assert episode.images.shape == (3, scenes.SIDE, scenes.SIDE, 3)
        assert episode.images.dtype == episode.mask.dtype == np.uint8
        assert episode.mask.shape == (scenes.SIDE, scenes.SIDE)
        assert set(np.unique(episode.mask)) <= {0, 255}
    # A defect that cannot be seen after all tries is rare.
    assert sum(episode.mask.any() for episode in episodes) >= len(episodes) - 1


def test_no_two_images_are_the_same(episodes):
    images = [image.tobytes() for episode in episodes for image in episode.images]
    assert len(set(images)) == len(images)


def test_words_are_of_the_vocabulary(episodes):
    nouns, defects = scenes.vocabulary()
    assert {episode.noun for episode in episodes} <= set(nouns)
    assert {episode.defect for episode in episodes} <= set(defects)
    assert len(set(nouns)) == len(nouns)


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_mask_holds_exactly_the_changed_pixels(defect):
    for seed in range(3):
        design = scenes._draw_design(np.random.default_rng(seed))
        image, mask = scenes._defective_image(design, defect, seed)
        tries = range(scenes.TRIES)
        normal = (scenes._photographs(design, seed + i)[0] for i in tries)
        changes = (cv2.absdiff(image, other).max(-1) for other in normal)
        change = next(change for change in changes if not change[mask == 0].any())
        assert (change[mask == 255] >= VISIBLE).all()


def photograph(**changed):
    """An image of a red scene by a camera without spread or noise but `changed`."""
    camera = dict.fromkeys(["turn", "shift", "light", "glow", "noise", "gamma"], 0)
    camera |= {"lamp": [0, 0, 1], "blur": 0.1, "saturation": 1, **changed}
    scene = np.full((scenes.SIDE, scenes.SIDE, 3), (0.4, 0.2, 0.2))
    return scenes._expose(scene, camera, np.random.default_rng(0)).astype(float)


def test_a_lamp_lights_where_it_stands():
    ratio = photograph(lamp=[0, 0.5, 0.2], glow=1) / photograph()
    columns = ratio.mean((0, 2))
    assert abs(columns.argmax() - 0.75 * scenes.SIDE) <= 1
    assert columns.max() == pytest.approx(2, abs=0.02)
    assert columns[: scenes.SIDE // 2] == pytest.approx(1, abs=0.02)


def test_a_camera_without_saturation_sees_grey():
    assert np.ptp(photograph(saturation=0), -1).max() == 0
    assert np.ptp(photograph(), -1).min() > 30


def test_gamma_changes_the_contrast_of_photographs():
    plain, bent = photograph(), photograph(gamma=0.3)
    ratios = np.log(bent / 255).mean((0, 1)) / np.log(plain / 255).mean((0, 1))
    assert ratios == pytest.approx(np.full(3, ratios[0]), rel=0.02)
    assert abs(ratios[0] - 1) > 0.05


def test_no_part_has_the_name_of_one_of_the_demo():
    nouns, _ = scenes.vocabulary()
    assert not {name.replace("_", " ") for name in dataset.CLASSES} & set(nouns)
