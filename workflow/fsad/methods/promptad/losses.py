"""Training objective of PromptAD (Li et al., CVPR 2024), quirks included."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones.clip_text import TextFeatures, anomaly_prompts


class Losses(NamedTuple):
    """Scalar terms of one step; `match` is not yet weighted."""

    cross_entropy: Tensor
    triplet: Tensor
    match: Tensor
    total: Tensor


def objective(
    features: Tensor, text: TextFeatures, logit_scale: float, match_weight: float
) -> Losses:
    """Loss of normal image features, [k, D] (cls) or [k, P, D] (seg).

    Cross-entropy of the normal anchor against every abnormal prompt, a triplet
    term between the two anchors, and the squared distance between the mean manual
    and the mean learned abnormal prompt.
    """
    normal, abnormal = anomaly_prompts(text)
    states = F.normalize(torch.cat([text.manual, text.learned]), dim=-1)
    prompts = torch.cat([normal[None], states])  # (1 + M, D)
    logits = logit_scale * features.flatten(0, -2) @ prompts.T
    ce = F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))
    # Summed over axis 1 as published: the features for cls, the patches for seg.
    to_normal = (features - normal).square().sum(1)
    to_abnormal = (features - abnormal).square().sum(1)
    triplet = F.relu(to_normal - to_abnormal).mean()
    groups = text.manual, text.learned
    manual, learned = (F.normalize(group, dim=-1).mean(0) for group in groups)
    match = (manual - learned).square().sum()
    return Losses(ce, triplet, match, ce + triplet + match_weight * match)
