"""The published way in full, with which benchmarks and self-test compare."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fsad.backbones.clip_text import Contexts, TextFeatures, anomaly_prompts
from fsad.backbones.clip_vision import embed
from fsad.backbones.embed import normalise_pixels
from fsad.backbones.readout import Variant
from fsad.backbones.tower import Tower
from fsad.data.layouts import Sample
from fsad.methods.promptad.losses import objective
from fsad.methods.promptad.method import MEMORY

MIDDLE = 1024  # published: bilinear to 1024 pixels first, bicubic to the model's then
RESOLUTION = 400


def text_features(clip, tokens: dict, contexts: Contexts) -> TextFeatures:
    """Encode every sequence, padded to the context length, with open_clip's modules."""
    normal, abnormal = contexts
    table = clip.token_embedding.weight
    start = table[int(tokens["start"])][None]
    rows = zip(tokens["states"], tokens["state_lengths"], strict=True)
    states = [table[torch.from_numpy(row[:length])] for row, length in rows]
    name = table[torch.from_numpy(tokens["name"])]
    count = len(normal) * len(abnormal)
    pairs = (
        (normal[m % len(normal)], abnormal[m % len(abnormal)]) for m in range(count)
    )
    sequences = [torch.cat([start, c, name]) for c in normal]
    sequences += [torch.cat([start, c, state]) for state in states for c in normal]
    sequences += [torch.cat([start, *pair, name]) for pair in pairs]
    ends = torch.tensor([len(sequence) - 1 for sequence in sequences])
    length = clip.positional_embedding.shape[0]
    padded = torch.stack([F.pad(s, (0, 0, 0, length - len(s))) for s in sequences])
    x = clip.transformer(padded + clip.positional_embedding, attn_mask=clip.attn_mask)
    x = clip.ln_final(x)[torch.arange(len(x)), ends] @ clip.text_projection
    return TextFeatures(*x.split([len(normal), len(states) * len(normal), count]))


def step(clip, tokens: dict, contexts: Contexts, features: Tensor) -> float:
    """Compute loss and gradients of one training step; return the loss."""
    text = text_features(clip, tokens, contexts)
    loss = objective(features, text, clip.logit_scale.item(), 0.001).total
    torch.autograd.grad(loss, contexts)
    return loss.item()


def read(path, size: int) -> np.ndarray:
    """Decode and resize one test image, uint8 [size, size, 3] RGB."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    image = cv2.resize(image, (MIDDLE, MIDDLE), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)


def train(
    clip, tokens: dict, contexts: Contexts, features: Tensor, options: Mapping
) -> Iterator[Tensor]:
    """Train with full sequences; yield the prompts [2, D] after each epoch.

    options: of the training, with `logit_scale` as a number.
    """
    contexts = Contexts(*(c.clone().requires_grad_() for c in contexts))
    names = "lr", "momentum", "weight_decay"
    optimizer = torch.optim.SGD(contexts, **{name: options[name] for name in names})
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, options["epochs"], eta_min=options["min_lr"]
    )
    for _ in range(options["epochs"]):
        optimizer.zero_grad()
        text = text_features(clip, tokens, contexts)
        weights = options["logit_scale"], options["match_weight"]
        objective(features, text, *weights).total.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            yield anomaly_prompts(text_features(clip, tokens, contexts))


def see(
    tower: Tower, sample: Sample, variant: Variant, read: Callable = read
) -> dict[str, Tensor]:
    """Decode, resize and embed one image; features, and `image` to be shown.

    read: from a path and a side S in pixels to an image, uint8 [S, S, 3].
    """
    pixels = read(sample.path, tower.config["image_size"])[None]
    pixels = normalise_pixels(pixels, tower)
    mean, std = (torch.tensor(tower.config[n])[:, None, None] for n in ("mean", "std"))
    shown = ((pixels[0].cpu() * std + mean) * 255).round().clamp(0, 255).byte()
    features = embed(tower, pixels, variant)
    patches = {n: x.flatten(1, -2) for n, x in features.items() if x.ndim == 4}
    return features | patches | {"image": shown.permute(1, 2, 0)}


def evaluate(
    see: Callable,
    samples: Sequence[Sample],
    memory: Mapping[str, Tensor],
    prompts: Tensor,
    logit_scale: float,
    *,
    task: str,
) -> float:
    """AUROC of one evaluation, image by image, by scikit-learn.

    see: `see` as a function of a sample alone. memory: features `mid1` and `mid2` of
    the support images. As published, all images are kept until the end.
    """
    scored, truth, kept = [], [], []
    for sample in samples:
        seen = see(sample)
        kept.append(seen["image"])
        cosines = [(seen[n] @ memory[n].flatten(0, -2).T).amax(-1) for n in MEMORY]
        distance = sum((1 - cosine) / 2 for cosine in cosines) / 2
        if task == "cls":
            text = _text_probability(seen["global"], prompts, logit_scale).item()
            scored.append(1 / (1 / enlarged(distance).max().item() + 1 / text))
            truth.append(sample.label)
        else:
            text = _text_probability(seen["patch"], prompts, logit_scale)
            scored.append(smoothed(enlarged(1 / (1 / text + 1 / distance))))
            truth.append(read_mask(sample))
    return 100 * roc_auc_score(np.ravel(truth), np.ravel(scored))


def _text_probability(features: Tensor, prompts: Tensor, logit_scale: float) -> Tensor:
    return torch.softmax(logit_scale * features @ prompts.T, -1)[..., 1]


def smoothed(full: Tensor) -> np.ndarray:
    """Smooth a full anomaly map."""
    return gaussian_filter(full.cpu().numpy(), sigma=4)


def enlarged(patches: Tensor) -> Tensor:
    """Interpolate values of the patches of one image to [RESOLUTION]*2."""
    side = round(patches.numel() ** 0.5)
    grid = patches.view(1, 1, side, side)
    return F.interpolate(grid, size=RESOLUTION, mode="bilinear")[0, 0]


def read_mask(sample: Sample) -> np.ndarray:
    """Decode and resize one mask, uint8 [RESOLUTION]*2, 0 or 1."""
    if sample.mask is None:
        return np.zeros((RESOLUTION, RESOLUTION), np.uint8)
    mask = cv2.imread(str(sample.mask), cv2.IMREAD_GRAYSCALE)
    mask = cv2.resize(mask, (RESOLUTION,) * 2, interpolation=cv2.INTER_NEAREST)
    return (mask > 0).astype(np.uint8)
