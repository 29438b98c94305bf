"""Features of images: computed in batches by a frozen backbone, and cached."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fsad.artifacts.files import is_whole, read_npz, write_npz
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import Embedding, Source
from fsad.backbones.clip_vision import embed
from fsad.backbones.devices import check_device
from fsad.backbones.readout import Variant, parse_variant
from fsad.backbones.tower import Tower, load_tower

BATCH = 8  # images a pass; the last bits of features depend on it


def write_features(tower: Source, work: Sequence[Embedding]) -> None:
    """Embed cached images and write their features, unless these exist as planned.

    Readout, device and precision are taken from the records. Raises UserError if a
    file is damaged or has another record.
    """
    missing = [item for item in work if not is_whole(*item.features)]
    if not missing:
        return
    _, first = missing[0].features
    check_device(first["device"])
    network = load_tower(*tower).to(first["device"], first["precision"])
    variant = parse_variant(first["readout"]["fields"])
    for (images, expected), (features, record) in missing:
        arrays = embed_set(network, read_npz(images, record=expected), variant)
        write_npz(features, arrays, with_provenance(record))


def embed_set(
    tower: Tower, images: Mapping[str, np.ndarray], variant: Variant
) -> dict[str, np.ndarray]:
    """Features of a set of images, with its labels and names.

    images: `images` uint8 [N, S, S, 3], `labels` and `names` [N].
    """
    features = embed_images(tower, images["images"], variant)
    return features | {name: images[name] for name in ("labels", "names")}


@torch.inference_mode()
def embed_images(
    tower: Tower, images: np.ndarray, variant: Variant, batch: int = BATCH
) -> dict[str, np.ndarray]:
    """Features of uint8 images [N, S, S, 3], see `clip_vision.embed` for shapes."""
    if not len(images):  # a class may have no test images
        shape = 1, *images.shape[1:]
        one = embed_batch(tower, np.zeros(shape, np.uint8), variant)
        return {name: feature[:0].cpu().numpy() for name, feature in one.items()}
    features = {}
    for start in tqdm(range(0, len(images), batch), "embed", mininterval=1):
        embedded = embed_batch(tower, images[start : start + batch], variant)
        for name, part in embedded.items():
            if name not in features:
                # Filled in place, since joining batches would need the memory twice.
                # Pinned, so that copies from a GPU do not block.
                shape = len(images), *part.shape[1:]
                features[name] = torch.empty(shape, pin_memory=part.is_cuda)
            features[name][start : start + batch].copy_(part, non_blocking=True)
    if tower.device.type == "cuda":
        torch.cuda.synchronize(tower.device)
    return {name: feature.numpy() for name, feature in features.items()}


@torch.inference_mode()
def embed_batch(
    tower: Tower, images: np.ndarray, variant: Variant
) -> dict[str, Tensor]:
    """Features of one batch of images, left on the device of the tower."""
    return embed(tower, normalise_pixels(images, tower), variant)


def normalise_pixels(images: np.ndarray, tower: Tower) -> Tensor:
    """Convert uint8 [B, S, S, 3] to normalised float32 [B, 3, S, S].

    Mean and std are those of the tower; the result is on its device.
    """
    mean = torch.tensor(tower.config["mean"], device=tower.device)
    std = torch.tensor(tower.config["std"], device=tower.device)
    pixels = torch.from_numpy(images).to(tower.device).float() / 255
    return ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous()
