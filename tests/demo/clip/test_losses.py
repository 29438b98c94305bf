import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss

from fsad.demo.clip import losses


def test_distances_are_to_the_nearest_patch_of_the_images_before():
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(6, 5, 7, generator=generator), dim=-1)
    normal, defective = losses.memory_distances(features)
    for episode in range(2):
        first, second, third = features[3 * episode : 3 * episode + 3]
        for patch in range(5):
            expected = naive_distance(second[patch], first)
            assert float(normal[episode, patch]) == pytest.approx(expected, abs=1e-6)
            expected = naive_distance(third[patch], [*first, *second])
            assert float(defective[episode, patch]) == pytest.approx(expected, abs=1e-6)


def naive_distance(patch, memory):
    return (1 - max(float(patch @ other) for other in memory)) / 2


def test_defective_and_normal_patches_weigh_the_same():
    logits = torch.randn(40, generator=torch.Generator().manual_seed(0))
    share = torch.tensor([[0.5] * 3 + [0.1] * 7 + [0.0] * 10])  # 0.1 is neither
    is_normal = [True] * 20 + [False] * 10 + [True] * 10
    kinds = slice(20, 23), is_normal
    expected = [
        log_loss([k] * len(logits[part]), logits[part].sigmoid(), labels=[0, 1])
        for k, part in zip((1, 0), kinds, strict=True)
    ]
    ours = losses.patch_loss(logits.view(2, 20), share)
    assert float(ours) == pytest.approx(np.mean(expected), abs=1e-5)


def test_similarities_of_the_teacher_cost_nothing():
    generator = torch.Generator().manual_seed(0)
    teacher = [F.normalize(torch.randn(6, 8, 5, generator=generator), dim=-1)]
    axes, _ = torch.linalg.qr(torch.randn(9, 5, generator=generator))
    rotated = [x @ axes.T for x in teacher]  # other features of the same cosines
    rng = np.random.default_rng(0)
    assert float(losses._similarity_term(rotated, teacher, rng)) < 1e-10
    noise = [F.normalize(torch.randn(6, 8, 9, generator=generator), dim=-1)]
    assert float(losses._similarity_term(noise, teacher, rng)) > 0.05
