"""Loss terms of the demo's small CLIP.

Terms of the memory features: `teacher`, prediction of the teacher's features by a
linear map; `similarity`, the teacher's cosines between patches; `distance`, the
teacher's distances to a memory of normal images; `memory`, these distances as anomaly
scores of patches and images.

Terms of the texts: `image_state` and `patch_state`, the difference between an abnormal
and a normal phrase as a classifier of images and patches; `noun`, contrast of images
and their phrases, as in CLIP (Radford et al., ICML 2021).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.demo.clip.corpus import PER_EPISODE, Batch
from fsad.demo.clip.phrases import (
    TextBranch,
    draw_contexts,
    draw_phrases,
    encode_phrases,
)

NORMAL, DEFECTIVE = 0.02, 0.25  # largest and smallest defect share of such patches
SAMPLED = 256  # patches of an episode whose similarities are compared


class Heads(NamedTuple):
    """Parameters that are trained beside the towers and discarded.

    teacher: linear map to the teacher's features for each block. slope: logarithm of
    the slope from distances to logits. patch, peak: thresholds for the distance of a
    patch, and for the largest one of an image.
    """

    teacher: list[Tensor]
    slope: Tensor
    patch: Tensor
    peak: Tensor


def make_heads(width: int, teacher: Sequence[np.ndarray]) -> Heads:
    """Random heads; width: of the memory features. teacher: features of each block."""
    maps = [torch.randn(width, x.shape[-1]) * width**-0.5 for x in teacher]
    return Heads(maps, *(torch.tensor(x) for x in (3.5, 0.1, 0.2)))


def memory_terms(
    memory: list[Tensor], batch: Batch, heads: Heads, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Loss terms of memory features, [3 B, P, Dv] of each block."""
    return {
        "teacher": _teacher_term(memory, batch.teacher, heads.teacher),
        "similarity": _similarity_term(memory, batch.teacher, rng),
        **_distance_terms(memory, batch, heads),
    }


def _teacher_term(
    memory: list[Tensor], teacher: list[Tensor], heads: list[Tensor]
) -> Tensor:
    blocks = zip(memory, heads, teacher, strict=True)
    cosines = [F.cosine_similarity(x @ head, t, dim=-1).mean() for x, head, t in blocks]
    return 1 - sum(cosines) / len(cosines)


def _similarity_term(
    memory: list[Tensor], teacher: list[Tensor], rng: np.random.Generator
) -> Tensor:
    """Squared differences of cosines between patches, within episodes and across."""
    episodes, patches = len(memory[0]) // PER_EPISODE, PER_EPISODE * memory[0].shape[1]
    sampled = min(SAMPLED, patches)
    chosen = torch.from_numpy(rng.choice(patches, sampled, replace=False))
    terms = []
    for pair in zip(memory, teacher, strict=True):
        x, t = (y.unflatten(0, (episodes, -1)).flatten(1, 2)[:, chosen] for y in pair)
        terms.append(F.mse_loss(x @ x.mT, t @ t.mT))
        x, t = (y[:, : sampled // episodes].flatten(0, 1) for y in (x, t))
        terms.append(F.mse_loss(x @ x.T, t @ t.T))
    return sum(terms) / len(terms)


def _distance_terms(
    memory: list[Tensor], batch: Batch, heads: Heads
) -> dict[str, Tensor]:
    ours = torch.stack([memory_distances(x) for x in memory])  # (blocks, 2, B, P)
    theirs = torch.stack([memory_distances(x) for x in batch.teacher])
    normal, defective = ours.mean(0)
    slope = heads.slope.exp()
    logits = slope * (torch.cat([normal, defective]) - heads.patch)
    peaks = [slope * (x.amax(1) - heads.peak) for x in (normal, defective)]
    scores = patch_loss(logits, _both_shares(batch.defect_share)) + _image_loss(*peaks)
    return {"distance": F.l1_loss(ours, theirs), "memory": scores}


def memory_distances(features: Tensor) -> Tensor:
    """Half the cosine distance to the nearest patch of a memory, [2, B, P].

    features: L2-normalised, [3 B, P, C]. The memory of the second image of an episode
    is the first image, that of the third image both others.
    """
    first, second, third = features.unflatten(0, (-1, PER_EPISODE)).unbind(1)
    memories = first, torch.cat([first, second], 1)
    pairs = zip((second, third), memories, strict=True)
    return torch.stack([(1 - (x @ memory.mT).amax(-1)) / 2 for x, memory in pairs])


def text_terms(
    features: Mapping[str, Tensor],
    words: Sequence[tuple[str, str]],
    defect_share: Tensor,
    branch: TextBranch,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """Loss terms of the text tower.

    features: of episodes, `global` [B, 3, D] and `patch` [B, 3, P, D]. words: noun and
    defect of each. defect_share: [B, P].
    """
    tower, images = branch.tower, features["global"]
    phrases = draw_phrases(words, branch.phrases, rng)
    contexts = draw_contexts(images[:, 1], branch).repeat(2, 1, 1)
    text = encode_phrases(tower, branch.phrases, [*phrases[0], *phrases[1]], contexts)
    normal, abnormal = text.unflatten(0, (2, -1)).unbind()  # (B, D)
    direction = math.exp(tower.config["logit_scale"]) * (abnormal - normal)
    logits = torch.einsum("btd,bd->bt", images, direction)
    patches = torch.einsum("btpd,bd->tbp", features["patch"][:, 1:], direction)
    shares = _both_shares(defect_share)
    return {
        "image_state": _image_loss(logits[:, :2], logits[:, 2]),
        "patch_state": patch_loss(patches.flatten(0, 1), shares),
        "noun": _contrastive_loss(branch.noun_logit_scale * images[:, 0] @ normal.T),
    }


def _both_shares(defect_share: Tensor) -> Tensor:
    """Defect shares of the second images, which are normal, and of the third ones."""
    return torch.cat([torch.zeros_like(defect_share), defect_share])


def patch_loss(logits: Tensor, defect_share: Tensor) -> Tensor:
    """Cross-entropy of normal and defective patches, with equal weight of both."""
    is_defective = defect_share >= DEFECTIVE
    loss = F.binary_cross_entropy_with_logits(
        logits, is_defective.float(), reduction="none"
    )
    kinds = [loss[is_defective], loss[defect_share <= NORMAL]]
    return sum(kind.sum() / max(kind.numel(), 1) for kind in kinds) / 2


def _image_loss(normal: Tensor, defective: Tensor) -> Tensor:
    """Cross-entropy of normal and defective images, with equal weight of both."""
    return (F.softplus(normal).mean() + F.softplus(-defective).mean()) / 2


def _contrastive_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of images against texts and of texts against images, [B, B]."""
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
