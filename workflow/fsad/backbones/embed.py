"""Features of a batch of images, computed by a frozen backbone."""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fsad.backbones import networks
from fsad.backbones.clip_vision import embed
from fsad.backbones.neighbourhoods import auto_width, pooled
from fsad.backbones.networks import Network
from fsad.backbones.readout import Readout, Variant
from fsad.backbones.tower import Tower
from fsad.errors import UserError

BATCH = 8  # images a pass; the last bits of features depend on it
AUTO, LAST = "auto", "last"
Features = dict[str, Tensor]


def embed_batch(network: Network, images: np.ndarray, readout: Readout) -> Features:
    """Features of images uint8 [B, H, W, 3], float32, on the device of the network.

    `promptad`: see `clip_vision.embed`. `tokens`: `patch` [B, gh, gw, D], the mean over
    the blocks. `neighbourhoods`: `patch` [B, h, w, T]. A batch that does not fit a GPU
    is computed in halves.
    """
    kinds = {"promptad": _promptad, "tokens": _tokens}
    read = {**kinds, "neighbourhoods": _neighbourhoods}[readout.kind]

    @torch.inference_mode()
    def compute(some: np.ndarray) -> Features:
        return read(network, normalise_pixels(some, network.tower), readout.fields)

    return in_halves(compute, images)


def in_halves(compute: Callable, images: np.ndarray) -> Features:
    """Features of a batch, of its halves where the batch does not fit a GPU.

    compute: from images [B, ...] to features [B, ...]. Raises UserError if one image
    alone does not fit.
    """
    try:
        return compute(images)
    except torch.cuda.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
    # Outside the handler, whose traceback keeps the tensors of the failed pass.
    if len(images) == 1:
        raise UserError(
            f"device: one image does not fit the memory of the GPU ({reason}); take "
            "smaller images, `precision: bfloat16`, a smaller backbone, or the CPU"
        )
    middle = len(images) // 2
    logging.warning("%d images do not fit the GPU, embedded in halves", len(images))
    torch.cuda.empty_cache()
    parts = [in_halves(compute, half) for half in (images[:middle], images[middle:])]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _promptad(network: Network, pixels: Tensor, fields: Mapping) -> Features:
    if network.module is not None:
        raise UserError("backbone: PromptAD needs a CLIP; take one of open_clip")
    return embed(network.tower, pixels, Variant(**fields))


def _tokens(network: Network, pixels: Tensor, fields: Mapping) -> Features:
    blocks = _blocks(fields["blocks"], networks.depth(network))
    found = networks.tokens(network, pixels, blocks, fields["norm"])
    return {"patch": sum(found[1:], found[0]) / len(found)}


def _blocks(wanted: str | Sequence[int], layers: int) -> Sequence[int]:
    named = {LAST: [layers - 1], AUTO: networks.auto_blocks(layers)}
    return named[wanted] if isinstance(wanted, str) else wanted


def _neighbourhoods(network: Network, pixels: Tensor, fields: Mapping) -> Features:
    layers = fields["layers"]
    layers = networks.auto_layers(network) if layers == AUTO else layers
    names = [x if isinstance(x, str) else f"{networks.BLOCK}{x}" for x in layers]
    maps = networks.stages(network, pixels, names)
    return {"patch": pooled(maps, *_widths(fields, maps))}


def _widths(fields: Mapping, maps: Sequence[Tensor]) -> list[int]:
    automatic = auto_width([layer.shape[1] for layer in maps])
    widths = (fields[name] for name in ("layer_width", "patch_width"))
    return [automatic if width == AUTO else width for width in widths]


@torch.inference_mode()
def embed_support(network: Network, copies: np.ndarray, readout: Readout) -> Features:
    """Features of support images uint8 [k, c, H, W, 3], c copies of each.

    With `tokens`: `patch` [k, c, gh, gw, D] float32, or with its field `moments` of
    all patches of an image `count` [k], `sum` [k, D] and `outer` [k, D, D], float64.
    With other kinds c is 1 and the arrays are those of `embed_batch`. Images pass one
    by one, so that the first rows of a draw do not depend on its length.
    """
    summary = _image_copies
    if readout.kind != "tokens":
        summary = _only_copy
    elif readout.fields["moments"]:
        summary = _image_moments
    rows = [summary(network, image, readout) for image in copies]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _only_copy(network: Network, image: np.ndarray, readout: Readout) -> Features:
    (only,) = image
    found = embed_batch(network, only[None], readout)
    return {name: feature[0] for name, feature in found.items()}


def _copy_batches(network: Network, image: np.ndarray, readout: Readout):
    for start in range(0, len(image), BATCH):
        yield embed_batch(network, image[start : start + BATCH], readout)["patch"]


def _image_copies(network: Network, image: np.ndarray, readout: Readout) -> Features:
    return {"patch": torch.cat([*_copy_batches(network, image, readout)])}


def _image_moments(network: Network, image: np.ndarray, readout: Readout) -> Features:
    """Number, sum and sum of outer products of patches, one copy at a time."""
    count, total, outer = 0, 0, 0
    for batch in _copy_batches(network, image, readout):
        for patches in batch.flatten(1, 2).double():
            count += len(patches)
            total = total + patches.sum(0)
            outer = outer + patches.T @ patches
    number = torch.tensor(count, dtype=torch.float64, device=total.device)
    return {"count": number, "sum": total, "outer": outer}


def normalise_pixels(images: np.ndarray, tower: Tower) -> Tensor:
    """Convert uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W].

    Mean and std are those of the tower; the result is on its device.
    """
    mean = torch.tensor(tower.config["mean"], device=tower.device)
    std = torch.tensor(tower.config["std"], device=tower.device)
    pixels = torch.from_numpy(images).to(tower.device).float() / 255
    return ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous()
