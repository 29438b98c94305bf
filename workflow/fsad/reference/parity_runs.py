"""Parity cases of AnomalyDINO, SubspaceAD and PatchCore, from images to metrics."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from fsad.backbones.embed import embed_batch, embed_support
from fsad.backbones.networks import Network, cut, open_network
from fsad.backbones.readout import Readout
from fsad.data import augment
from fsad.data.augment import Augment
from fsad.data.views import View, resized
from fsad.evaluation import metrics
from fsad.methods import anomalydino, patchcore, subspacead
from fsad.methods.maps import bilinear_matrix, full_maps, smoothing_matrix
from fsad.reference.parity_methods import formula_network

Arrays = dict[str, np.ndarray | Tensor | float]
DEVICE = {"device": "cpu", "precision": "float32", "position": "any"}


def compute(case: Mapping[str, np.ndarray], meta: Mapping) -> dict[str, np.ndarray]:
    """All arrays of a case of one of the three methods, by their published names."""
    network = open_network(formula_network(meta))
    found = COMPUTE[meta["method"]](network, case, meta)
    return {name: np.asarray(value) for name, value in found.items()}


def _patchcore(network: Network, case: Mapping, meta: Mapping) -> Arrays:
    fields = {"layers": meta["layers"], "layer_width": meta["pretrain_dim"]}
    fields |= {"patch_width": meta["target_dim"]}
    view = View("square", case["test"].shape[1])
    readout = Readout("case", "neighbourhoods", view, Augment(), fields)
    test = embed_batch(network, case["test"], readout)["patch"]
    support = embed_support(network, {"images": case["support"][:, None]}, readout)[
        "patch"
    ]
    bank, learned, found = support.flatten(0, 2), {}, {}
    if meta["coreset"] < 1:
        projected = "projection" in case  # not where the features have its width
        projection = torch.from_numpy(case["projection"]) if projected else None
        drawn = projection, case["start_points"]
        indices = patchcore.greedy_coreset(bank, meta["coreset"], *drawn)
        learned, found = {"bank": bank[indices]}, {"coreset_indices": indices}
    options = {"neighbours": meta["num_nn"], "resolution": view.size, **DEVICE}
    options |= {"coreset": meta["coreset"]}
    detector = patchcore.restore("seg", options, {"patch": support}, learned)
    scores, maps, _ = detector.predict(detector.observe({"patch": test}))
    return found | {
        "support_features": bank,
        "test_features": test.flatten(0, 2),
        "patch_scores": maps,
        "image_scores": scores,
        "maps": full_maps(maps.numpy(), view.size, meta["sigma"]),
    }


def _anomalydino(network: Network, case: Mapping, meta: Mapping) -> Arrays:
    view = View("edge", meta["smaller_edge"], "bicubic")
    fields = {"blocks": "last", "norm": True, "moments": False}
    readout = Readout("case", "tokens", view, Augment(), fields)
    angles = meta["rotation_angles"]
    copies = [[augment.rotated(i, a) for a in angles] for i in case["support"]]
    support = embed_support(network, {"images": _views(copies, view)}, readout)["patch"]
    (images,) = _views([case["test"]], view)
    test = embed_batch(network, images, readout)["patch"]
    options = {"mask": "published" if meta["masking"] else "none", **DEVICE}
    options |= {"resolution": view.size}
    detector = anomalydino.restore("seg", options, {"patch": support}, {})
    scores, distances, _ = detector.predict(detector.observe({"patch": test}))
    shape = case["test"].shape[1:3]
    maps = full_maps(distances.numpy(), shape, meta["gaussian_sigma"])
    found = _features(support.flatten(0, 1), test) | _ranked(case, scores, maps)
    if meta["masking"]:
        found["foreground"] = anomalydino.foreground(test, "published").flatten(1)
        found["first_component"] = anomalydino.first_component(test).flatten(1)
    return found | {
        "support_augmented_1": copies[0][:2][-1],
        "test_resized_0": _seen(network, images[0]),
        "patch_distances": distances,
        "maps": maps[meta["map_images"]],
        "scores": scores,
    }


def _features(support: Tensor, test: Tensor) -> Arrays:
    return {
        "support_features": support.flatten(1, 2),
        "test_features": test.flatten(1, 2),
    }


def _subspacead(network: Network, case: Mapping, meta: Mapping) -> Arrays:
    view = View("square", meta["resolution"], "bicubic")
    fields = {"blocks": meta["blocks"], "norm": False, "moments": False}
    readout = Readout("case", "tokens", view, Augment(), fields)
    passes = [_turned(case["support"], angles) for angles in case["angles"]]
    seen = [
        embed_support(network, {"images": _views(x, view)}, readout) for x in passes
    ]
    first, second = (found["patch"].flatten(0, 1) for found in seen)
    (images,) = _views([case["test"]], view)
    test = embed_batch(network, images, readout)["patch"]
    mean = first.flatten(0, 2).double().mean(0)
    share = meta["explained_variance"]
    fitted = subspacead.subspace(_moments(second), share, mean)
    parts = fitted.mean.float(), fitted.components.float()
    residuals = subspacead.residuals(test, *parts)
    maps = _published_maps(residuals, meta)
    scores = subspacead.pixel_scores(torch.from_numpy(maps))
    found = _ranked(case, scores, maps, _nearest(case["masks"], view.size))
    if meta["augment_count"]:
        found["support_features_covariance"] = second
        found["support_augmented_1"] = passes[0][0][1]
    return found | {
        "support_features_mean": first,
        "test_features": test,
        "test_resized_0": _seen(network, images[0]),
        "pca_mean": fitted.mean,
        "pca_eigenvalues": fitted.eigenvalues,
        "pca_components": fitted.components,
        "patch_residuals": residuals,
        "maps": maps[meta["map_images"]],
        "scores": scores,
    }


def _turned(images: np.ndarray, angles: np.ndarray) -> list[list[np.ndarray]]:
    """Each image and its rotated copies."""
    pairs = zip(images, angles, strict=True)
    return [[i, *(augment.rotated_onto_black(i, a) for a in own)] for i, own in pairs]


def _moments(features: Tensor) -> subspacead.Moments:
    """Moments of features [n, gh, gw, D]."""
    patches = features.flatten(0, 2).double()
    return subspacead.Moments(len(patches), patches.sum(0), patches.T @ patches)


def _published_maps(residuals: Tensor, meta: Mapping) -> np.ndarray:
    """Full maps with the published blur of a few pixels."""
    blur, side = meta["blur"], meta["resolution"]
    smoothing = smoothing_matrix(side, blur["sigma"], blur["kernel"] // 2, False)
    rows, columns = (
        (smoothing @ bilinear_matrix(n, side)).astype(np.float32)
        for n in residuals.shape[1:]
    )
    return rows @ residuals.numpy() @ columns.T


def _nearest(masks: np.ndarray, side: int) -> np.ndarray:
    """Masks at another size, as Pillow resizes them by nearest pixels."""
    rows, columns = (
        ((np.arange(side) + 0.5) * n / side).astype(int) for n in masks.shape[1:]
    )
    return masks[:, rows[:, None], columns]


def _views(images, view: View) -> np.ndarray:
    """Lists of images in a view, [n, c, H, W, 3]."""
    return np.stack([[resized(image, view) for image in own] for own in images])


def _seen(network: Network, image: np.ndarray) -> np.ndarray:
    """An image without what is beyond a whole patch."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    kept = cut(pixels, network.tower.config["patch_size"])
    return kept[0].permute(1, 2, 0).numpy()


def _ranked(
    case: Mapping, scores: Tensor, maps: np.ndarray, masks: np.ndarray | None = None
) -> Arrays:
    """Metrics of scores and full maps, by their published names."""
    image = metrics.image_metrics(case["labels"], scores.numpy())
    masks = case["masks"] if masks is None else masks
    pixel = metrics.pixel_metrics(masks, np.ascontiguousarray(maps))
    published = zip(("i_roc", "i_ap", "i_f1max"), image.values(), strict=True)
    names = ("p_roc", "p_ap", "p_f1max", "pro")
    return dict(published) | dict(zip(names, pixel.values(), strict=True))


COMPUTE: dict[str, Callable[[Network, Mapping, Mapping], Arrays]] = {
    "patchcore": _patchcore,
    "AnomalyDINO": _anomalydino,
    "SubspaceAD": _subspacead,
}
