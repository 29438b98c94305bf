"""Training corpus of the demo's small CLIP: episodes with teacher features."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fsad.demo.clip.teacher import block_features, load_teacher
from fsad.demo.scenes import SIDE, draw_episode

PER_EPISODE = 3  # images: two of normal parts, one of a defective part


class Corpus(NamedTuple):
    """Episodes.

    images: uint8 [N, 3, S, S, 3]. defect_share: of the area of each patch of the third
    image, float32 [N, G, G]. words: for the part and for its defect. teacher: features
    of each block, float16 [N, 3, H, W, C] with H = W <= G.
    """

    images: np.ndarray
    defect_share: np.ndarray
    words: Sequence[tuple[str, str]]
    teacher: Sequence[np.ndarray]


class Batch(NamedTuple):
    """Some episodes of a corpus.

    images: uint8 [3 B, S, S, 3]. defect_share: [B, G*G]. words: of each episode.
    teacher: L2-normalised features of each block, [3 B, G*G, C].
    """

    images: np.ndarray
    defect_share: Tensor
    words: list[tuple[str, str]]
    teacher: list[Tensor]


def make_corpus(episodes: int, patch: int, workers: int) -> Corpus:
    """Corpus of the episodes of seeds 0, 1, ..., for patches of `patch` pixels."""
    images = np.empty((episodes, PER_EPISODE, SIDE, SIDE, 3), np.uint8)
    shares = np.empty((episodes, SIDE // patch, SIDE // patch), np.float32)
    words = []
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        drawn = pool.map(draw_episode, range(episodes), chunksize=32)
        for i, episode in enumerate(tqdm(drawn, "draw", episodes, mininterval=1)):
            images[i], shares[i] = episode.images, _defect_share(episode.mask, patch)
            words.append((episode.noun, episode.defect))
    features = block_features(load_teacher(), images.reshape(-1, SIDE, SIDE, 3))
    features = [x.reshape(episodes, PER_EPISODE, *x.shape[1:]) for x in features]
    return Corpus(images, shares, words, features)


def _defect_share(mask: np.ndarray, patch: int) -> np.ndarray:
    """Share of each patch that a mask covers, [G, G]."""
    grid = SIDE // patch
    return (mask.reshape(grid, patch, grid, patch) > 0).mean((1, 3))


def draw_batch(corpus: Corpus, count: int, rng: np.random.Generator) -> Batch:
    """Random episodes, each rotated and mirrored as a whole."""
    chosen = rng.choice(len(corpus.images), count, replace=False)
    symmetries = rng.integers(8, size=count)
    grid = corpus.defect_share.shape[-1]

    def gather(array: np.ndarray) -> Tensor:
        pairs = zip(chosen, symmetries, strict=True)
        return torch.from_numpy(np.stack([_transform(array[i], s) for i, s in pairs]))

    shares = gather(corpus.defect_share[..., None]).flatten(1)
    teacher = [_on_grid(gather(x).flatten(0, 1), grid) for x in corpus.teacher]
    images = gather(corpus.images).flatten(0, 1).numpy()
    return Batch(images, shares, [corpus.words[i] for i in chosen], teacher)


def _on_grid(features: Tensor, grid: int) -> Tensor:
    """Features [B, H, W, C] interpolated to a grid and L2-normalised, [B, G*G, C]."""
    x = features.float().permute(0, 3, 1, 2)
    if x.shape[-1] != grid:
        x = F.interpolate(x, size=(grid, grid), mode="bilinear")
    return F.normalize(x.flatten(2).transpose(1, 2), dim=-1)


def _transform(array: np.ndarray, symmetry: int) -> np.ndarray:
    """One of the eight symmetries of a square, of [..., H, W, C] with H = W."""
    if symmetry & 1:
        array = array[..., ::-1, :]
    if symmetry & 2:
        array = array[..., ::-1, :, :]
    return array.swapaxes(-2, -3) if symmetry & 4 else array
