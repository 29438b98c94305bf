"""A detector as one graph, from images of its own size to scores and full maps.

The graph is traced from the functions that detect: they are the same code, and images
stay the first axis throughout.
"""

import numpy as np
import torch
from torch import Tensor, nn

from fsad.backbones.embed import WHOLE, embed_pictures, embed_tensor
from fsad.backbones.features import tile_spans
from fsad.data.masks import RAW
from fsad.data.region import as_image, resized_region
from fsad.data.tiles import INSIDE, insides, pictures, spans, tiled_shape
from fsad.data.views import view_shape
from fsad.errors import UserError
from fsad.evaluation.detector import SHAPE, Detector
from fsad.methods.maps import Resolution, Sigma, picture_sigmas
from fsad.methods.patches import upsample

SQUARE = 1, 1  # shape of an image whose shape does not matter


class Graph(nn.Module):
    """Scores [B] and maps [B, R, R] of images uint8 [B, H, W, 3].

    H and W: see `input_shapes`. whole: the whole images [B, S, S, 3], where tiles and
    whole images are seen. At `resolution: raw` maps are [B, h, w] of the one shape of
    the support images.
    """

    def __init__(self, detector: Detector):
        """Raises UserError for a detector that no graph can hold."""
        super().__init__()
        check_exportable(detector)
        self.detector = detector
        self.inside = patches_inside(detector)

    def forward(
        self, images: Tensor, whole: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scores and full maps."""
        features, fitted = tiled_features(self.detector, images), self.detector.fitted
        if whole is not None:
            found = embed_tensor(self.detector.network, whole, self.detector.readout)
            features |= {f"{WHOLE}{name}": feature for name, feature in found.items()}
        prediction = fitted.predict(fitted.observe(features | self.inside))
        full = upsample(prediction.maps, *map_size(self.detector))
        scores = full.amax((1, 2)) if prediction.scores is None else prediction.scores
        return scores, in_region(full, self.detector.region)


def patches_inside(detector: Detector) -> dict[str, np.ndarray]:
    """Which patches lie in the region of interest, as features of one image."""
    region, view = detector.region, detector.readout.view
    if region is None:
        return {}
    marked = insides(as_image(region), view)
    image = {**pictures(np.zeros((*region.shape, 3), np.uint8), view), **marked}
    some = {name: array[None] for name, array in image.items()}
    found = embed_pictures(detector.network, some, detector.readout)
    return {n: x.cpu().numpy() for n, x in found.items() if n.endswith(INSIDE)}


def in_region(full: Tensor, region: np.ndarray | None) -> Tensor:
    """Full maps [B, R, S], 0 outside the region of interest."""
    if region is None:
        return full
    shown = resized_region(region, tuple(full.shape[1:]))
    return full * torch.from_numpy(shown)


def tiled_features(detector: Detector, images: Tensor) -> dict[str, Tensor]:
    """Features of images [B, H, W, 3], or of the tiles that are cut from them."""
    network, readout = detector.network, detector.readout
    if not readout.view.is_tiled:
        return embed_tensor(network, images, readout)
    shape = image_shape(detector)
    rows, columns = (places.tolist() for places in spans(shape, readout.view))
    tiles = [images[:, a:b, c:d] for a, b in rows for c, d in columns]
    flat = torch.stack(tiles, 1).flatten(0, 1)  # (B * R * C, h, w, 3)
    grid = len(rows), len(columns)
    found = embed_tensor(network, flat, readout)
    found = {name: x.unflatten(0, (-1, *grid)) for name, x in found.items()}
    return found | tile_spans({"shapes": np.array([shape])}, readout.view)


def map_size(detector: Detector) -> tuple[Resolution, Sigma]:
    """Rows and columns of full maps, and the sigma of their smoothing."""
    resolution = detector.described["options"]["resolution"]
    sigma = detector.fitted.sigma
    if resolution != RAW:
        return resolution, sigma
    shape = image_shape(detector)
    return shape, picture_sigmas(shape, sigma)


def image_shape(detector: Detector) -> tuple[int, int]:
    """Height and width of the support images before resizing, or SQUARE where the
    graph is the same for all."""
    options = detector.described["options"]
    if detector.readout.view.fit == "square" and options["resolution"] != RAW:
        return SQUARE
    ((height, width),) = _shapes(detector)
    return height, width


def _shapes(detector: Detector) -> set[tuple[int, ...]]:
    return {tuple(image[SHAPE].tolist()) for image in detector.seen}


def input_shapes(detector: Detector) -> dict[str, tuple[int, int]]:
    """Height and width of the inputs of the graph, `images` and with tiles and whole
    images also `whole`."""
    view, shape = detector.readout.view, image_shape(detector)
    if not view.is_tiled:
        return {"images": view_shape(shape, view)}
    whole = {"whole": view_shape(shape, view)} if view.whole else {}
    return {"images": tiled_shape(shape, view), **whole}


def check_exportable(detector: Detector) -> None:
    """Raise UserError, with the option at fault, for what no graph can hold."""
    options, view = detector.described["options"], detector.readout.view
    is_fixed = view.fit == "square" and options["resolution"] != RAW
    problems = {
        "mask: a graph has no foreground mask; take `mask: none`": (
            options.get("mask", "none") != "none"
        ),
        "tiles: their number depends on the image where they have a size; take `auto` "
        "or a grid": view.is_tiled and view.grid is None,
        "fit: edge, or resolution: raw, of support images of several shapes; take "
        "`fit: square` and a number": not is_fixed and len(_shapes(detector)) != 1,
    }
    for problem, is_there in problems.items():
        if is_there:
            raise UserError(f"{problem}, or export .safetensors")
