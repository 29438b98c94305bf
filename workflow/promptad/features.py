"""Everything a training needs of the images, computed once and cached."""

from collections.abc import Mapping

import numpy as np
import torch

from promptad import scores
from promptad.devices import check_device
from promptad.provenance import origin, tower_origin
from promptad.scores import MEMORY
from promptad.storage import read_npz
from promptad.transformer import Tower, load_tower, placed, tower_device
from promptad.variants import Variant
from promptad.vision import embed_images


def embed_test_from_files(
    place: Mapping[str, str], how: Mapping, tower: str, images: str
) -> dict[str, np.ndarray]:
    """`embed_test` of cached images.

    place: `dataset` and `class_name`. how: `variant` (its fields), `device` and
    `precision`. Raises UserError if a file is damaged or of another place.
    """
    opened = _opened(tower, how)
    made = _pixels("preprocess_test.py", place, opened)
    return embed_test(opened, read_npz(images, origin=made), Variant(**how["variant"]))


def embed_support_from_files(
    place: Mapping[str, str], how: Mapping, tower: str, images: str, test: str
) -> dict[str, np.ndarray]:
    """`embed_support` of cached images and features of a draw, see above.

    place: `dataset`, `class_name`, `shots`, `seed` and `variant` (its name).
    """
    opened = _opened(tower, how)
    made = _pixels("preprocess_support.py", place, opened)
    support = read_npz(images, origin=made)
    tested = read_npz(test, *MEMORY, origin=origin("embed_test.py", **place))
    return embed_support(opened, support, tested, Variant(**how["variant"]))


def _opened(tower: str, how: Mapping) -> Tower:
    check_device(how["device"])
    loaded = load_tower(tower, tower_origin(tower))
    return placed(loaded, how["device"], how["precision"])


def _pixels(script: str, place: Mapping[str, str], tower: Tower) -> dict:
    """Where cached images for a tower must come from."""
    return origin(script, **place, size=tower.config["image_size"])


def embed_test(
    tower: Tower, images: dict[str, np.ndarray], variant: Variant
) -> dict[str, np.ndarray]:
    """Features of the test images with their labels and names."""
    features = embed_images(tower, images["images"], variant)
    return features | {name: images[name] for name in ("labels", "names")}


def embed_support(
    tower: Tower,
    support: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    variant: Variant,
) -> dict[str, np.ndarray]:
    """Features of the support images, and `visual`, float32 [N, G, G].

    `visual` is the distance map of every test image to the memory of support
    patches; training never changes it. `test` holds at least `mid1` and `mid2`.
    """
    features = embed_images(tower, support["images"], variant)
    device = tower_device(tower)
    visual = scores.visual_maps(
        memory_tensors(test, device), memory_tensors(features, device)
    )
    return features | {"visual": visual.cpu().numpy(), "names": support["names"]}


def memory_tensors(
    features: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, torch.Tensor]:
    """The features that are the memory of patches, `MEMORY`, on a device."""
    return {name: torch.from_numpy(features[name]).to(device) for name in MEMORY}
