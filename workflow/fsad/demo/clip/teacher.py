"""Patch features of EfficientNet-lite0, the teacher of the demo's small CLIP.

The network comes from the package efficientnet-lite-pytorch (Apache License 2.0), used
by this module alone, its ImageNet weights from the one of `backbones.lite0`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fsad.backbones.lite0 import published_weights
from fsad.errors import UserError

SIZE = 224  # side in pixels of the images that the network was trained on
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLOCKS = 8, 11  # their outputs have 112 channels on 14x14, 192 on 7x7


def load_teacher() -> nn.Module:
    """EfficientNet-lite0 with its ImageNet weights."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing; pip install --no-deps -r envs/demo_backbone.txt"
        ) from error
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(published_weights())
    return net.eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def block_features(
    net: nn.Module, images: np.ndarray, batch: int = 8
) -> list[np.ndarray]:
    """Outputs of each block for uint8 images [N, S, S, 3], float16 [N, H, W, C]."""
    shapes = [x.shape[1:] for x in _outputs(net, _pixels(images[:1]))]
    # Filled in place: many small arrays would pin the memory freed between them.
    features = [np.empty((len(images), *shape), np.float16) for shape in shapes]
    for start in tqdm(range(0, len(images), batch), "teacher", mininterval=1):
        outputs = _outputs(net, _pixels(images[start : start + batch]))
        for whole, part in zip(features, outputs, strict=True):
            whole[start : start + batch] = part
    return features


def _pixels(images: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(images).float() / 255
    pixels = (pixels - torch.tensor(MEAN)) / torch.tensor(STD)
    pixels = pixels.permute(0, 3, 1, 2)  # channels stay last in memory
    return F.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear")


def _outputs(net: nn.Module, pixels: Tensor) -> list[np.ndarray]:
    x, outputs = net._swish(net._bn0(net._conv_stem(pixels))), []
    for index, block in enumerate(net._blocks[: max(BLOCKS) + 1]):
        x = block(x)
        if index in BLOCKS:
            outputs.append(x.permute(0, 2, 3, 1).numpy())
    return outputs
