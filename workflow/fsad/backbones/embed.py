"""Features of a batch of images, computed by a frozen backbone."""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones import networks
from fsad.backbones.clip_vision import embed, embed_windows
from fsad.backbones.neighbourhoods import auto_width, pooled
from fsad.backbones.networks import Network
from fsad.backbones.readout import Readout, Variant
from fsad.backbones.tower import Tower
from fsad.data.tiles import INSIDE
from fsad.errors import UserError

BATCH = 8  # images a pass; the last bits of features depend on it
AUTO, LAST = "auto", "last"
PATCH = "patch"
WHOLE = "whole_"  # begins the names of features of whole images, beside those of tiles
Features = dict[str, Tensor]


def embed_batch(network: Network, images: np.ndarray, readout: Readout) -> Features:
    """Features of images uint8 [B, H, W, 3], float32, on the device of the network.

    `promptad`: see `clip_vision.embed`. `tokens`: `patch` [B, gh, gw, D], the mean over
    the blocks. `neighbourhoods`: `patch` [B, h, w, T]. `windows`: see
    `clip_vision.embed_windows`. A batch that does not fit a GPU is computed in halves.
    """

    @torch.inference_mode()
    def compute(some: np.ndarray) -> Features:
        return embed_tensor(network, torch.from_numpy(some), readout)

    return in_halves(compute, images)


def embed_tensor(network: Network, images: Tensor, readout: Readout) -> Features:
    """`embed_batch` of a tensor uint8 [B, H, W, 3], in one pass that can be traced."""
    kinds = {"promptad": _promptad, "tokens": _tokens, "windows": _windows}
    read = {**kinds, "neighbourhoods": _neighbourhoods}[readout.kind]
    return read(network, normalise_pixels(images, network.tower), readout.fields)


def embed_pictures(
    network: Network, pictures: Mapping[str, np.ndarray], readout: Readout
) -> Features:
    """Features of `tiles.pictures` of n images, see `embed_batch`.

    Of tiles they are [n, R, C, ...]. With a region of interest `inside` says for each
    patch whether any of it lies there. Features of `whole` have names that begin so.
    """
    found = _embedded(network, pictures["images"], pictures.get(INSIDE), readout)
    if "whole" in pictures:
        given = pictures["whole"], pictures.get(f"{WHOLE}{INSIDE}")
        whole = _embedded(network, *given, readout)
        found |= {f"{WHOLE}{name}": feature for name, feature in whole.items()}
    return found


def _embedded(
    network: Network, images: np.ndarray, inside: np.ndarray | None, readout: Readout
) -> Features:
    found = _batches(network, images.reshape(-1, *images.shape[-3:]), readout)
    if inside is not None:
        grid = found[PATCH].shape[1:3]
        pixels = torch.from_numpy(inside.reshape(-1, 1, *inside.shape[-2:])).float()
        found[INSIDE] = F.adaptive_max_pool2d(pixels, grid)[:, 0] > 0
    tiles = images.shape[:-3]
    return {name: feature.unflatten(0, tiles) for name, feature in found.items()}


def _batches(network: Network, images: np.ndarray, readout: Readout) -> Features:
    """Features of any number of images, a few a pass."""
    starts = range(0, max(len(images), 1), BATCH)
    parts = [embed_batch(network, images[i : i + BATCH], readout) for i in starts]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


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
    return embed(_clip(network), pixels, Variant(**fields))


def _windows(network: Network, pixels: Tensor, fields: Mapping) -> Features:
    tower = _clip(network)
    pixels = networks.cut(pixels, tower.config["patch_size"])
    return embed_windows(tower, pixels, **fields)


def _clip(network: Network) -> Tower:
    """The tower of a CLIP; UserError for another network."""
    if network.module is not None:
        raise UserError("backbone: the method needs a CLIP; take one of open_clip")
    return network.tower


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
def embed_support(
    network: Network, copies: Mapping[str, np.ndarray], readout: Readout
) -> Features:
    """Features of support images, `tiles.pictures` of c copies of each, [k, c, ...].

    With `tokens`: `patch` [k, c, gh, gw, D] float32, or with its field `moments` of
    all patches of an image `count` [k], `sum` [k, D] and `outer` [k, D, D], float64.
    With other kinds c is 1 and the arrays are those of `embed_pictures`. Of tiles they
    are [k, c, R, C, gh, gw, D], and [k, R, C], [k, R, C, D] and so on. Images pass one
    by one, so that the first rows of a draw do not depend on its length.
    """
    summary = embed_pictures
    if readout.kind != "tokens":
        summary = _only_copy
    elif readout.fields["moments"]:
        summary = _image_moments
    rows = [
        summary(network, {name: array[row] for name, array in copies.items()}, readout)
        for row in range(len(copies["images"]))
    ]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _only_copy(network: Network, image: Mapping, readout: Readout) -> Features:
    found = embed_pictures(network, image, readout)
    return {name: only for name, (only,) in found.items()}


def _image_moments(network: Network, image: Mapping, readout: Readout) -> Features:
    """Number, sum and sum of outer products of the patches of all copies, by tile."""
    found = {}
    for start in range(0, len(image["images"]), BATCH):
        some = {name: array[start : start + BATCH] for name, array in image.items()}
        batch = embed_pictures(network, some, readout)
        for name in [name for name in batch if name.endswith(PATCH)]:
            prefix, patches = name.removesuffix(PATCH), batch[name]
            inside = batch.get(f"{prefix}{INSIDE}", [None] * len(patches))
            for copy in zip(patches, inside, strict=True):  # (gh, gw, D) or of tiles
                for key, value in _moments(*copy).items():
                    found[f"{prefix}{key}"] = found.get(f"{prefix}{key}", 0) + value
            if inside[0] is not None:  # the first of all copies is the image itself
                found.setdefault(f"{prefix}{INSIDE}", inside[0])
    return found


def _moments(patches: Tensor, inside: Tensor | None) -> Features:
    """Number, sum and sum of outer products of patches [..., gh, gw, D], by tile."""
    patches = patches.flatten(-3, -2).double()
    count = patches.new_full(patches.shape[:-2], patches.shape[-2])
    if inside is not None:
        kept = inside.flatten(-2).to(patches)
        patches, count = patches * kept[..., None], kept.sum(-1)
    return {"count": count, "sum": patches.sum(-2), "outer": patches.mT @ patches}


def normalise_pixels(images: np.ndarray | Tensor, tower: Tower) -> Tensor:
    """Convert uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W].

    Mean and std are those of the tower; the result is on its device.
    """
    mean = torch.tensor(tower.config["mean"], device=tower.device)
    std = torch.tensor(tower.config["std"], device=tower.device)
    pixels = torch.as_tensor(images).to(tower.device).float() / 255
    return ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous()
