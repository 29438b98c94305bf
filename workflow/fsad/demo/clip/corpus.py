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
    """Episodes."""

    images: np.ndarray  # uint8 [N, 3, S, S, 3]
    defect_share: np.ndarray  # of each patch of the third image, float32 [N, G, G]
    words: Sequence[tuple[str, str]]  # for the part and for its defect
    teacher: Sequence[np.ndarray]  # features of each block, [N, 3, H, W, C], H = W <= G


def make_corpus(episodes: int, patch: int, workers: int) -> Corpus:
    """Corpus of the episodes of seeds 0, 1, ..., for patches of `patch` pixels."""
    grid, words = SIDE // patch, []
    images = np.empty((episodes, PER_EPISODE, SIDE, SIDE, 3), np.uint8)
    shares = np.empty((episodes, grid, grid), np.float32)
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        drawn = pool.map(draw_episode, range(episodes), chunksize=32)
        for i, episode in enumerate(tqdm(drawn, "draw", episodes, mininterval=1)):
            pixels = episode.mask.reshape(grid, patch, grid, patch) > 0
            images[i], shares[i] = episode.images, pixels.mean((1, 3))
            words.append((episode.noun, episode.defect))
    features = block_features(load_teacher(), images.reshape(-1, SIDE, SIDE, 3))
    features = [x.reshape(episodes, PER_EPISODE, *x.shape[1:]) for x in features]
    return Corpus(images, shares, words, features)


def draw_batch(corpus: Corpus, count: int, rng: np.random.Generator) -> tuple:
    """Random episodes, each rotated and mirrored as a whole.

    Returns images uint8 [3 B, S, S, 3], defect shares [B, G*G], the words of each
    episode and the teacher's L2-normalised features of each block, [3 B, G*G, C].
    """
    chosen = rng.choice(len(corpus.images), count, replace=False)
    symmetries = rng.integers(8, size=count)
    grid = corpus.defect_share.shape[-1]

    def gather(array: np.ndarray) -> Tensor:
        pairs = zip(chosen, symmetries, strict=True)
        return torch.from_numpy(np.stack([_transform(array[i], s) for i, s in pairs]))

    shares = gather(corpus.defect_share[..., None]).flatten(1)
    teacher = []
    for features in corpus.teacher:
        x = gather(features).flatten(0, 1).float().permute(0, 3, 1, 2)
        x = F.interpolate(x, size=(grid, grid), mode="bilinear")
        teacher.append(F.normalize(x.flatten(2).transpose(1, 2), dim=-1))
    images = gather(corpus.images).flatten(0, 1).numpy()
    return images, shares, [corpus.words[i] for i in chosen], teacher


def _transform(array: np.ndarray, symmetry: int) -> np.ndarray:
    """One of the eight symmetries of a square, of [..., H, W, C] with H = W."""
    down, across = (slice(None, None, -1 if symmetry & b else 1) for b in (2, 1))
    array = array[..., down, across, :]
    return array.swapaxes(-2, -3) if symmetry & 4 else array
