"""The objective against NumPy, written from the method's description with loops."""

import numpy as np
import pytest
import torch

from fsad.backbones.clip_text import TextFeatures
from fsad.methods.promptad.losses import objective

LOGIT_SCALE, WEIGHT = 4.6, 0.25


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def drawn(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


PROMPTS = TextFeatures(2 + drawn(3, 6), drawn(4, 6), 1 + drawn(5, 6))
FEATURES = {"cls": unit(drawn(2, 6)), "seg": unit(drawn(2, 7, 6))}


def naive_objective(x, prompts, logit_scale, weight):
    normal = unit(prompts.normal.mean(0))
    every = np.concatenate([prompts.manual, prompts.learned])
    abnormal = unit(every.mean(0))
    entropies = []
    for feature in x.reshape(-1, x.shape[-1]):
        logits = [logit_scale * feature @ normal]
        logits += [logit_scale * feature @ unit(prompt) for prompt in every]
        entropies.append(np.log(np.exp(logits).sum()) - logits[0])
    distances = [np.square(x - anchor).sum(axis=1) for anchor in (normal, abnormal)]
    triplet = np.maximum(distances[0] - distances[1], 0).mean()
    apart = unit(prompts.manual).mean(0) - unit(prompts.learned).mean(0)
    match = (apart**2).sum()
    return (
        np.mean(entropies),
        triplet,
        match,
        np.mean(entropies) + triplet + weight * match,
    )


def ours(x, prompts):
    tensors = TextFeatures(*(torch.from_numpy(array) for array in prompts))
    return objective(torch.from_numpy(x), tensors, LOGIT_SCALE, WEIGHT)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("task", FEATURES)
def test_every_term_is_that_of_the_naive_version(task, sign):
    x = sign * FEATURES[task]
    expected = naive_objective(x, PROMPTS, LOGIT_SCALE, WEIGHT)
    assert np.allclose(ours(x, PROMPTS), expected, rtol=1e-10)


def test_the_triplet_of_patches_sums_over_patches():
    normal, abnormal = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    prompts = TextFeatures(normal, abnormal, abnormal)
    patches = np.array([[[2.0, 0.0], [1.0, 0.0]]])
    # axis 0 of the anchors: 4 + 1 to normal, 1 + 0 to abnormal; axis 1: 2 and 0
    assert float(ours(patches, prompts).triplet) == pytest.approx((4 + 2) / 2)


def test_features_at_the_normal_anchor_have_no_triplet_loss():
    x = unit(PROMPTS.normal.mean(0))[None]
    assert float(ours(x, PROMPTS).triplet) == 0


def test_equal_manual_and_learned_prompts_match():
    prompts = PROMPTS._replace(learned=PROMPTS.manual)
    assert float(ours(FEATURES["cls"], prompts).match) == 0
