"""Features of images, in batches through a frozen backbone, and their files."""

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

LABELS = "labels", "names"  # of images, which features carry too


def write_features(tower: Source, work: Sequence[Embedding]) -> None:
    """Embed cached images and write their features, unless these are there as planned.

    Readout, device and precision are those of the records. Raises UserError if a file
    is damaged or of another record.
    """
    missing = [one for one in work if not is_whole(*one.features)]
    if not missing:
        return
    _, first = missing[0].features
    check_device(first["device"])
    opened = load_tower(*tower).to(first["device"], first["precision"])
    variant = parse_variant(first["readout"]["fields"])
    for (images, made), (features, record) in missing:
        arrays = embed_set(opened, read_npz(images, record=made), variant)
        write_npz(features, arrays, with_provenance(record))


def embed_set(
    tower: Tower, images: Mapping[str, np.ndarray], variant: Variant
) -> dict[str, np.ndarray]:
    """Features of a set of images, with its labels and names.

    images: `images` uint8 [N, S, S, 3], `labels` and `names` [N].
    """
    features = embed_images(tower, images["images"], variant)
    return features | {name: images[name] for name in LABELS}


@torch.inference_mode()
def embed_images(
    tower: Tower, images: np.ndarray, variant: Variant, batch: int = 8
) -> dict[str, np.ndarray]:
    """Features of uint8 images [N, S, S, 3]; names and shapes: `clip_vision.embed`."""
    features = {}
    for start in tqdm(range(0, len(images), batch), "embed", mininterval=1):
        part_of_all = embed_batch(tower, images[start : start + batch], variant)
        for name, part in part_of_all.items():
            if name not in features:
                # Filled in place: joined at the end, all would be there twice. In
                # pinned memory, into which a GPU copies without being waited for.
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
    """`embed_images` of as many images as the device takes at once, left on it."""
    return embed(tower, normalise_pixels(images, tower), variant)


def normalise_pixels(images: np.ndarray, tower: Tower) -> Tensor:
    """uint8 [B, S, S, 3] to float32 [B, 3, S, S] with the backbone's mean and std, on
    the tower's device."""
    mean = torch.tensor(tower.config["mean"], device=tower.device)
    std = torch.tensor(tower.config["std"], device=tower.device)
    pixels = torch.from_numpy(images).to(tower.device).float() / 255
    return ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous()
