"""Anomaly scores and maps from image features, text features and the patch memory."""

import torch
from torch import Tensor

from promptad.maps import bilinear_matrix

# The image features kept as the memory of patches, and those that prompts are learned
# from and compared with.
MEMORY = ("mid1", "mid2")
TRAINED_ON = {"cls": "global", "seg": "patch"}


def textual_scores(features: Tensor, prompts: Tensor, temperature: float) -> Tensor:
    """Probability of the abnormal prompt for [..., D] features, [...]."""
    return torch.softmax(temperature * features @ prompts.T, -1)[..., 1]


@torch.inference_mode()
def visual_maps(
    test: dict[str, Tensor], memory: dict[str, Tensor], batch: int = 8
) -> Tensor:
    """Distance of every test patch to the nearest support patch, [N, G, G].

    `test` and `memory` hold normalised `mid1` and `mid2`, [N, P, Dv] and [k, P, Dv];
    the map is the mean of (1 - cosine) / 2 over both.
    """
    distances = [
        _nearest(test[name], memory[name].flatten(0, 1), batch) for name in MEMORY
    ]
    grid = round(distances[0].shape[1] ** 0.5)
    return (sum(distances) / 2).unflatten(1, (grid, grid))


def _nearest(patches: Tensor, bank: Tensor, batch: int) -> Tensor:
    parts = [(part @ bank.T).amax(-1) for part in patches.split(batch)]
    return (1 - torch.cat(parts)).clamp(min=0) / 2  # rounding: a cosine exceeds 1


def harmonic(first: Tensor, second: Tensor) -> Tensor:
    """Fusion of two scores, 1 / (1/a + 1/b)."""
    return 1 / (1 / first + 1 / second)


def resize_maps(maps: Tensor, matrix: Tensor) -> Tensor:
    """Maps [N, G, G] at their final size, [N, R, R]; matrix [R, G]."""
    return matrix @ maps @ matrix.T


def peak_scores(maps: Tensor, resolution: int) -> Tensor:
    """Maximum of each map [N, G, G] after bilinear interpolation, [N]."""
    matrix = torch.from_numpy(bilinear_matrix(maps.shape[-1], resolution)).to(maps)
    return resize_maps(maps, matrix).amax((1, 2))


def auroc(marred: Tensor, scores: Tensor) -> float:
    """`metrics.auroc` on the device of its arguments, bool and float32 of one shape."""
    if scores.isnan().any():
        raise ValueError("scores hold nan")
    good, defects = scores[~marred].sort().values, scores[marred]
    sides = (torch.searchsorted(good, defects, right=right) for right in (False, True))
    won, won_or_tied = (int(side.sum()) for side in sides)
    pairs = len(good) * len(defects)
    return 50 * (won + won_or_tied) / pairs if pairs else float("nan")
