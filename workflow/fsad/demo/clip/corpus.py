"""The episodes the demo's small CLIP learns from, and what a teacher sees in them."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fsad.demo.clip.teacher import load_teacher, teach
from fsad.demo.scenes import SIDE, draw_episode

PER_EPISODE = 3


class Corpus(NamedTuple):
    """Episodes: images uint8 [N, 3, S, S, 3], two sound and a marred one, the marred
    share of its patches, float32 [N, G, G], the words for part and defect, and the
    teacher's features, each float16 [N, 3, H, W, C] with H = W = G or less."""

    images: np.ndarray
    marred: np.ndarray
    words: Sequence[tuple[str, str]]
    taught: Sequence[np.ndarray]


class Batch(NamedTuple):
    """Some episodes: `images` uint8 [3 B, S, S, 3], `marred` [B, G*G], `words` and
    L2-normalised `taught`, each [3 B, G*G, C]."""

    images: np.ndarray
    marred: Tensor
    words: list[tuple[str, str]]
    taught: list[Tensor]


def make_corpus(episodes: int, patch: int, workers: int) -> Corpus:
    """Draw the episodes of seeds 0, 1, ... with a patch size of `patch` pixels."""
    images = np.empty((episodes, PER_EPISODE, SIDE, SIDE, 3), np.uint8)
    marred = np.empty((episodes, SIDE // patch, SIDE // patch), np.float32)
    words = []
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        drawn = pool.map(draw_episode, range(episodes), chunksize=32)
        for i, episode in enumerate(tqdm(drawn, "draw", episodes, mininterval=1)):
            images[i], marred[i] = episode.images, _share(episode.mask, patch)
            words.append((episode.noun, episode.defect))
    taught = teach(load_teacher(), images.reshape(-1, SIDE, SIDE, 3))
    taught = [x.reshape(episodes, PER_EPISODE, *x.shape[1:]) for x in taught]
    return Corpus(images, marred, words, taught)


def _share(mask: np.ndarray, patch: int) -> np.ndarray:
    """The part of each patch's pixels that a mask covers."""
    grid = SIDE // patch
    return (mask.reshape(grid, patch, grid, patch) > 0).mean((1, 3))


def draw_batch(corpus: Corpus, count: int, rng: np.random.Generator) -> Batch:
    """Random episodes, each turned and mirrored as a whole."""
    chosen = rng.choice(len(corpus.images), count, replace=False)
    turns = rng.integers(8, size=count)
    grid = corpus.marred.shape[-1]

    def gather(array: np.ndarray) -> Tensor:
        pairs = zip(chosen, turns, strict=True)
        return torch.from_numpy(np.stack([_turn(array[i], turn) for i, turn in pairs]))

    marred = gather(corpus.marred[..., None])
    taught = [_features(gather(t).flatten(0, 1), grid) for t in corpus.taught]
    images = gather(corpus.images).flatten(0, 1).numpy()
    return Batch(images, marred.flatten(1), [corpus.words[i] for i in chosen], taught)


def _features(taught: Tensor, grid: int) -> Tensor:
    """Teacher's features [B, H, W, C] on the grid of patches, [B, G*G, C]."""
    x = taught.float().permute(0, 3, 1, 2)
    if x.shape[-1] != grid:
        x = F.interpolate(x, size=(grid, grid), mode="bilinear")
    return F.normalize(x.flatten(2).transpose(1, 2), dim=-1)


def _turn(array: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight ways to lay [..., H, W, C] down."""
    if turn & 1:
        array = array[..., ::-1, :]
    if turn & 2:
        array = array[..., ::-1, :, :]
    return array.swapaxes(-2, -3) if turn & 4 else array
