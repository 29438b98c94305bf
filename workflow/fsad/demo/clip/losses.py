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
from numpy.random import Generator
from torch import Tensor

from fsad.demo.clip import phrases
from fsad.demo.clip.corpus import PER_EPISODE
from fsad.demo.clip.phrases import TextBranch

NORMAL, DEFECTIVE = 0.02, 0.25  # largest and smallest defect share of such patches
SAMPLED = 256  # patches of an episode whose similarities are compared


class Heads(NamedTuple):
    """Parameters that are trained beside the towers and discarded."""

    teacher: list[Tensor]  # linear map to the teacher's features for each block
    slope: Tensor  # logarithm of the slope from distances to logits
    patch: Tensor  # threshold for the distance of a patch
    peak: Tensor  # threshold for the largest distance of an image


def make_heads(width: int, teacher: Sequence[np.ndarray]) -> Heads:
    """Random heads; width: of the memory features. teacher: features of each block."""
    maps = [torch.randn(width, x.shape[-1]) * width**-0.5 for x in teacher]
    return Heads(maps, *(torch.tensor(x) for x in (3.5, 0.1, 0.2)))


def memory_terms(
    memory: list, teacher: list, defect_share: Tensor, heads: Heads, rng: Generator
) -> dict[str, Tensor]:
    """Loss terms of memory features [3 B, P, Dv] and the teacher's, of each block."""
    blocks = zip(memory, heads.teacher, teacher, strict=True)
    cosines = [F.cosine_similarity(x @ head, t, dim=-1).mean() for x, head, t in blocks]
    similarity = _similarity_term(memory, teacher, rng)
    ours = torch.stack([memory_distances(x) for x in memory])  # (blocks, 2, B, P)
    theirs = torch.stack([memory_distances(x) for x in teacher])
    distances, slope = ours.mean(0), heads.slope.exp()
    logits = slope * (distances.flatten(0, 1) - heads.patch)
    peaks = slope * (distances.amax(2) - heads.peak)
    return {
        "teacher": 1 - sum(cosines) / len(cosines),
        "similarity": similarity,
        "distance": F.l1_loss(ours, theirs),
        "memory": patch_loss(logits, defect_share) + _image_loss(*peaks),
    }


def _similarity_term(memory: list, teacher: list, rng: Generator) -> Tensor:
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
    features: Mapping,
    words: Sequence,
    share: Tensor,
    branch: TextBranch,
    rng: Generator,
) -> dict[str, Tensor]:
    """Loss terms of the text tower.

    features: of episodes, `global` [B, 3, D] and `patch` [B, 3, P, D]. words: noun and
    defect of each. share: of the defect in each patch, [B, P].
    """
    tower, images = branch.tower, features["global"]
    texts = phrases.draw_phrases(words, branch.phrases, rng)
    contexts = phrases.draw_contexts(images[:, 1], branch).repeat(2, 1, 1)
    text = phrases.encode_phrases(tower, branch.phrases, texts, contexts)
    normal, abnormal = text.unflatten(0, (2, -1))  # (B, D)
    direction = math.exp(tower.config["logit_scale"]) * (abnormal - normal)
    logits = torch.einsum("btd,bd->tb", images, direction)
    patches = torch.einsum("btpd,bd->tbp", features["patch"][:, 1:], direction)
    nouns = branch.noun_logit_scale * images[:, 0] @ normal.T
    own = torch.arange(len(nouns))
    return {
        "image_state": _image_loss(logits[:2], logits[2]),
        "patch_state": patch_loss(patches.flatten(0, 1), share),
        "noun": (F.cross_entropy(nouns, own) + F.cross_entropy(nouns.T, own)) / 2,
    }


def patch_loss(logits: Tensor, defect_share: Tensor) -> Tensor:
    """Cross-entropy of normal and defective patches, with equal weight of both.

    logits: of the second images, which are normal, and of the third ones, [2 B, P].
    defect_share: of the third ones, [B, P].
    """
    defect_share = torch.cat([torch.zeros_like(defect_share), defect_share])
    is_defective = defect_share >= DEFECTIVE
    loss = F.binary_cross_entropy_with_logits(
        logits, is_defective.float(), reduction="none"
    )
    kinds = [loss[is_defective], loss[defect_share <= NORMAL]]
    return sum(kind.sum() / max(kind.numel(), 1) for kind in kinds) / 2


def _image_loss(normal: Tensor, defective: Tensor) -> Tensor:
    """Cross-entropy of normal and defective images, with equal weight of both."""
    return (F.softplus(normal).mean() + F.softplus(-defective).mean()) / 2
