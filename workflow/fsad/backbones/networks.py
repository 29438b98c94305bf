"""One interface to frozen networks: tokens of blocks, and maps of stages."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fsad.backbones.clip_vision import block_tokens
from fsad.backbones.timm_models import build
from fsad.backbones.tower import Tower
from fsad.backbones.transformer import resized_positions, square_grid
from fsad.errors import UserError

BLOCK = "blocks."  # before the number of a block, where a ViT gives stages


class Network(NamedTuple):
    """A tower, and for those of timm the module that computes with its weights."""

    tower: Tower
    module: nn.Module | None = None


class _Stop(Exception):  # noqa: N818
    """Ends a forward pass in which everything wanted has been seen."""


def open_network(tower: Tower) -> Network:
    """Build the network of a tower once, on its device and in its precision."""
    return Network(tower, build(tower) if "library" in tower.config else None)


def depth(network: Network) -> int:
    """Number of blocks; UserError for a network without blocks."""
    config = network.tower.config
    if "layers" in config:
        return config["layers"]
    raise UserError(f"backbone: {config['model']} is a CNN, without tokens; take a ViT")


def auto_blocks(layers: int) -> list[int]:
    """Blocks (0-based) between 55 and 70 % of the depth, as published for SubspaceAD.

    Of 12 blocks these are 7 and 8, of 24 13 to 17, of 40 22 to 28.
    """
    return [*range(round(0.55 * layers), round(0.70 * layers) + 1)]


def auto_layers(network: Network) -> list[str]:
    """Stages of stride 8 and 16 of a CNN, `layer2` and `layer3` of a ResNet.

    Of a ViT, the blocks at half and three quarters of the depth.
    """
    config = network.tower.config
    if "stages" not in config:
        blocks = (max(0, round(config["layers"] * part) - 1) for part in (0.5, 0.75))
        return [f"{BLOCK}{index}" for index in blocks]
    stages = config["stages"].items()
    found = {stride: name for name, (_, stride) in stages}
    if not {8, 16} <= found.keys():
        raise UserError(
            f"layers: {config['model']} has no stages of stride 8 and 16; name two of "
            f"{', '.join(config['stages'])}"
        )
    return [found[8], found[16]]


@torch.inference_mode()
def tokens(
    network: Network, pixels: Tensor, blocks: Sequence[int], norm: bool
) -> list[Tensor]:
    """Patch tokens [B, gh, gw, D] after each of some blocks (0-based), float32.

    pixels: normalised, [B, 3, H, W]; rows and columns beyond the last whole patch are
    cut. norm: whether with the final norm. No block after the last wanted one is run.
    Raises UserError for a block that the network does not have.
    """
    layers = depth(network)
    if not {*blocks} <= {*range(layers)}:
        raise UserError(
            f"blocks: {[*blocks]} are not all among the backbone's 0 to {layers - 1}"
        )
    pixels = cut(pixels, network.tower.config["patch_size"])
    if network.module is None:
        return block_tokens(network.tower, pixels, blocks, norm)
    return _timm_tokens(network, pixels, blocks, norm)


def cut(pixels: Tensor, patch: int) -> Tensor:
    """Pixels [B, 3, H, W] without what is beyond a multiple of the patch."""
    height, width = (side // patch * patch for side in pixels.shape[2:])
    if not height * width:
        raise UserError(
            f"image_size: {'x'.join(map(str, pixels.shape[2:]))} pixels hold no patch "
            f"of {patch}x{patch}; take larger images"
        )
    return pixels[:, :, :height, :width]


@torch.inference_mode()
def stages(network: Network, pixels: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Maps [B, C, h, w] of named layers, float32.

    layers: of a CNN its stages, `layer2` for example, with their last activation; of
    a ViT `blocks.N`, the patch tokens after block N without the final norm. Raises
    UserError for a layer that the network does not have.
    """
    if "stages" in network.tower.config:
        return _cnn_stages(network, pixels, layers)
    blocks = [_block(network, layer) for layer in layers]
    found = tokens(network, pixels, blocks, norm=False)
    return [x.permute(0, 3, 1, 2).contiguous() for x in found]


def _block(network: Network, layer: str) -> int:
    known = [f"{BLOCK}{index}" for index in range(depth(network))]
    if layer not in known:
        raise _no_layer(layer, f"{known[0]} to {known[-1]}")
    return known.index(layer)


def _no_layer(layer: str, known: str) -> UserError:
    return UserError(f"layers: the backbone has no {layer!r}; take of {known}")


def _timm_tokens(
    network: Network, pixels: Tensor, blocks: Sequence[int], norm: bool
) -> list[Tensor]:
    size, wanted = network.tower.config["patch_size"], sorted({*blocks})
    grid = pixels.shape[2] // size, pixels.shape[3] // size
    if network.tower.config["positions"] == "dinov2":
        _set_positions(network, (pixels.shape[2], pixels.shape[3]))
    with _computing(network.tower):
        found = network.module.forward_intermediates(
            *(pixels, wanted),
            norm=norm,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
    by_block = dict(zip(wanted, found, strict=True))
    return [by_block[block].float().unflatten(1, grid) for block in blocks]


def _set_positions(network: Network, shape: tuple[int, int]) -> None:
    """Resize the positions to images of a shape, as DINOv2 does and timm does not."""
    embedding, stored = network.module.patch_embed, network.tower.weights["pos_embed"]
    before = embedding.grid_size
    embedding.set_input_size(img_size=shape)  # of this grid: left alone by timm
    if embedding.grid_size != before:
        positions = dinov2_positions(stored, embedding.grid_size)
        network.module.pos_embed = nn.Parameter(positions, requires_grad=False)


def dinov2_positions(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embedding [1, 1 + G*G, D] of DINOv2 without registers, at another grid.

    Bicubic by a scale and without antialias; timm's own differs by 2 to 9 % of a
    feature. Source: DINOv2 (Oquab et al., 2023), public code.
    """
    own = square_grid(embedding[0, 1:])
    if grid == own:
        return embedding
    scale = tuple((new + 0.1) / old for new, old in zip(grid, own, strict=True))
    patches = resized_positions(embedding[0, 1:], scale_factor=scale)
    return torch.cat([embedding[0, :1], patches])[None]


def _cnn_stages(
    network: Network, pixels: Tensor, layers: Sequence[str]
) -> list[Tensor]:
    found, wanted = {}, {*layers}
    for layer in wanted - {name for name, _ in network.module.named_modules()}:
        raise _no_layer(layer, ", ".join(network.tower.config["stages"]))

    def keep(name: str, output: Tensor) -> None:
        found[name] = output.clone()  # a later layer may change it in place
        if len(found) == len(wanted):
            raise _Stop

    watched = _watched(network.module, layers, keep)
    with watched, _computing(network.tower), suppress(_Stop):
        network.module.forward_features(pixels)
    return [found[layer].float() for layer in layers]


@contextmanager
def _watched(module: nn.Module, layers: Sequence[str], keep: Callable) -> Iterator:
    """Hand the outputs of layers to `keep(name, output)`."""
    with ExitStack() as hooks:
        for name in layers:
            watch = partial(_hand_over, keep, name)
            hook = module.get_submodule(name).register_forward_hook(watch)
            hooks.callback(hook.remove)
        yield


def _hand_over(keep: Callable, name: str, *call) -> None:
    _, _, output = call  # after the module and its inputs
    keep(name, output)


@contextmanager
def _computing(tower: Tower) -> Iterator[None]:
    """Products in the precision of the tower, and in float32 without TF32."""
    kinds = {weight.dtype for weight in tower.weights.values()}
    half = torch.autocast(tower.device.type, torch.bfloat16, torch.bfloat16 in kinds)
    exact = torch.backends.cudnn.flags(deterministic=True, allow_tf32=False)
    with half, exact:
        yield
