"""Scores of PromptAD: against the two prompts, and fused with the memory distance."""

import torch
from torch import Tensor


def text_probability(features: Tensor, prompts: Tensor, logit_scale: float) -> Tensor:
    """Probability of the abnormal prompt, [...], for features [..., D].

    prompts: normal and abnormal direction, [2, D].
    """
    return torch.softmax(logit_scale * features @ prompts.T, -1)[..., 1]


def fuse(first: Tensor, second: Tensor) -> Tensor:
    """1 / (1/a + 1/b) of two scores."""
    return 1 / (1 / first + 1 / second)
