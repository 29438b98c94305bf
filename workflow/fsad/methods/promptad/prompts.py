"""Scores of PromptAD: text probability, and its fusion with the memory distance."""

import torch
from torch import Tensor


def text_probability(features: Tensor, prompts: Tensor, logit_scale: float) -> Tensor:
    """Probability of the abnormal prompt for features [..., D], [...].

    prompts: normal and abnormal direction, [2, D].
    """
    return torch.softmax(logit_scale * features @ prompts.T, -1)[..., 1]


def fuse(first: Tensor, second: Tensor) -> Tensor:
    """Fusion of two scores a and b, 1 / (1/a + 1/b)."""
    return 1 / (1 / first + 1 / second)
