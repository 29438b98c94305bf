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
    ce = _cross_entropy(features, normal, text, logit_scale)
    triplet = _triplet(features, normal, abnormal)
    match = _match(text)
    return Losses(ce, triplet, match, ce + triplet + match_weight * match)


def _cross_entropy(
    features: Tensor, normal: Tensor, text: TextFeatures, logit_scale: float
) -> Tensor:
    abnormal = F.normalize(torch.cat([text.manual, text.learned]), dim=-1)
    prompts = torch.cat([normal[None], abnormal])  # (1 + M, D)
    logits = logit_scale * features.flatten(0, -2) @ prompts.T
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


def _triplet(features: Tensor, normal: Tensor, abnormal: Tensor) -> Tensor:
    # Summed over axis 1 as published: the features for cls, the patches for seg.
    to_normal = (features - normal).square().sum(1)
    to_abnormal = (features - abnormal).square().sum(1)
    return F.relu(to_normal - to_abnormal).mean()


def _match(text: TextFeatures) -> Tensor:
    manual = F.normalize(text.manual, dim=-1).mean(0)
    learned = F.normalize(text.learned, dim=-1).mean(0)
    return (manual - learned).square().sum()
